"""2^x for compiled loops, of a number or of several in lanes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from distilscope.lm.kernels.llvm import FLOAT, INTEGER, Typed, alike, instruction
from distilscope.lm.kernels.numba_cache import compiled

LOG2_E = np.float32(1.4426950408889634)
"""log2 of e."""

_SMALLEST, _LARGEST = -126.0, 127.0
_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(6, -1, -1))
_6, _5, _4, _3, _2, _1, _0 = _SERIES


@compiled
def exp2(x: Any) -> Any:
    """2^x to 4e-7 of itself, by Taylor's series about the nearest whole number; 0 below 2^-126, the smallest normal,
    and at most 2^127."""
    within = _within(x)
    whole = _nearest(within)
    rest = within - whole
    series = (((((rest * _6 + _5) * rest + _4) * rest + _3) * rest + _2) * rest + _1) * rest + _0
    return _times_power(series, whole, x)


@instruction
def _within(_context: Any, x: Any) -> Typed:
    """x, or the nearer of the two bounds."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        (value,) = values
        smallest, largest = alike(value, FLOAT, _SMALLEST), alike(value, FLOAT, _LARGEST)
        value = builder.select(builder.fcmp_ordered(">", value, smallest), value, smallest)
        return builder.select(builder.fcmp_ordered("<", value, largest), value, largest)

    return x(x), write


@instruction
def _nearest(_context: Any, x: Any) -> Typed:
    """The nearest whole number."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        kind = values[0].type
        name = "llvm.rint.f32" if kind == FLOAT else f"llvm.rint.v{kind.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), values)

    return x(x), write


@instruction
def _times_power(_context: Any, series: Any, _whole: Any, _x: Any) -> Typed:
    """The series times 2 to a whole number, where it is in [0.5, 2) and the result no less than 2^-126; 0 where x is
    less."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        series, whole, x = values
        integers = alike(x, INTEGER)
        shifted = builder.shl(builder.fptosi(whole, integers), alike(x, INTEGER, 23))
        product = builder.bitcast(builder.add(builder.bitcast(series, integers), shifted), alike(x, FLOAT))
        return builder.select(builder.fcmp_ordered("<", x, alike(x, FLOAT, _SMALLEST)), alike(x, FLOAT, 0.0), product)

    return series(series, series, series), write
