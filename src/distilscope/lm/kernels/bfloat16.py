"""Elements of arrays as float32, whatever the arrays hold: float32 itself, or bfloat16 as int16 bits.

bfloat16 is the upper half of a float32, so reading is a shift, and writing rounds to the nearest (of two, to the even
one), as torch does. LLVM has a type for it, but not on every processor the instructions.
"""

from __future__ import annotations

from typing import Any

import numba

from distilscope.lm.kernels.llvm import FLOAT, INTEGER, SHORT, Typed, alike, instruction


@instruction
def number(_context: Any, x: Any) -> Typed:
    """An element as float32: itself, or what bfloat16's bits mean."""
    if x == numba.float32:
        return numba.float32(x), lambda _context, _builder, _signature, values: values[0]

    return numba.float32(numba.int16), lambda _context, builder, _signature, values: widened(builder, values[0])


@instruction
def element(_context: Any, _x: Any, into: Any) -> Typed:
    """A float32 as an element of the array `into`: itself, or the bits of the nearest bfloat16 (of two, the even
    one)."""
    if into.dtype == numba.float32:
        return numba.float32(numba.float32, into), lambda _context, _builder, _signature, values: values[0]

    return numba.int16(numba.float32, into), lambda _context, builder, _signature, values: narrowed(builder, values[0])


def widened(builder: Any, bits: Any) -> Any:
    """The float32 that these 16 bits mean, or a vector of them."""
    return builder.bitcast(
        builder.shl(builder.zext(bits, alike(bits, INTEGER)), alike(bits, INTEGER, 16)), alike(bits, FLOAT)
    )


def narrowed(builder: Any, x: Any) -> Any:
    """Of the nearest one (of two, the even one), for a float32 or a vector of them."""
    bits = builder.bitcast(x, alike(x, INTEGER))
    odd = builder.and_(builder.lshr(bits, alike(x, INTEGER, 16)), alike(x, INTEGER, 1))
    rounded = builder.add(builder.add(bits, alike(x, INTEGER, 0x7FFF)), odd)
    return builder.trunc(builder.lshr(rounded, alike(x, INTEGER, 16)), alike(x, SHORT))
