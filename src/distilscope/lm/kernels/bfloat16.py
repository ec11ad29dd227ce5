"""Elements of arrays as float32, whatever the arrays hold: float32 itself, or bfloat16 as int16 bits.

bfloat16 is the upper half of a float32, so reading is a shift, and writing rounds to the nearest (of two, to the even
one), as torch does. LLVM has a type for it, but not on every processor the instructions.
"""

from __future__ import annotations

from typing import Any

import numba

from distilscope.lm.kernels.llvm import FLOAT, INTEGER, SHORT, Typed, instruction, shaped_like


@instruction
def number(_context: Any, x: Any) -> Typed:
    """An element of an array as float32."""
    if x == numba.float32:
        return numba.float32(x), lambda _context, _builder, _signature, values: values[0]

    return numba.float32(numba.int16), lambda _context, builder, _signature, values: widened(builder, values[0])


@instruction
def element(_context: Any, _x: Any, into: Any) -> Typed:
    """A float32 as an element of the array `into`, rounded to its format."""
    if into.dtype == numba.float32:
        return numba.float32(numba.float32, into), lambda _context, _builder, _signature, values: values[0]

    return numba.int16(numba.float32, into), lambda _context, builder, _signature, values: narrowed(builder, values[0])


def widened(builder: Any, bits: Any) -> Any:
    """LLVM's instructions from the 16 bits of a bfloat16, or a vector of them, to float32: shifted left by 16."""
    high = builder.shl(builder.zext(bits, shaped_like(bits, INTEGER)), shaped_like(bits, INTEGER, 16))
    return builder.bitcast(high, shaped_like(bits, FLOAT))


def narrowed(builder: Any, x: Any) -> Any:
    """LLVM's instructions from a float32, or a vector of them, to the 16 bits of the nearest bfloat16.

    Half of the last bit that stays is added, less one unit if that bit is even, before the lower half is cut off: ties
    then go to the even one.
    """
    bits = builder.bitcast(x, shaped_like(x, INTEGER))
    odd = builder.and_(builder.lshr(bits, shaped_like(x, INTEGER, 16)), shaped_like(x, INTEGER, 1))
    rounded = builder.add(builder.add(bits, shaped_like(x, INTEGER, 0x7FFF)), odd)
    return builder.trunc(builder.lshr(rounded, shaped_like(x, INTEGER, 16)), shaped_like(x, SHORT))
