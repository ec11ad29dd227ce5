"""2^x for compiled loops, of a number or of a vector, without a call and without a table: loops with it vectorise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from distilscope.lm.kernels.llvm import FLOAT, INTEGER, Typed, instruction, shaped_like
from distilscope.lm.kernels.numba_cache import compiled

LOG2_E = np.float32(1.4426950408889634)
"""log2(e): exp(x) = 2^(x * LOG2_E)."""

_SMALLEST, _LARGEST = -126.0, 127.0
_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(6, -1, -1))
_6, _5, _4, _3, _2, _1, _0 = _SERIES


@compiled
def exp2(x: Any) -> Any:
    """2^x to a relative error of 4e-7; 0 below 2^-126, the smallest normal float32, and at most 2^127.

    x is a whole number plus a rest in [-1/2, 1/2]: 2^rest by its Taylor series, 2^whole by adding to the exponent bits.
    """
    clamped = _clamped(x)
    whole = _nearest(clamped)
    rest = clamped - whole
    series = (((((rest * _6 + _5) * rest + _4) * rest + _3) * rest + _2) * rest + _1) * rest + _0
    return _scaled(series, whole, x)


@instruction
def _clamped(_context: Any, x: Any) -> Typed:
    """x, clamped to what has a normal float32 as its power."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        (value,) = values
        smallest, largest = shaped_like(value, FLOAT, _SMALLEST), shaped_like(value, FLOAT, _LARGEST)
        value = builder.select(builder.fcmp_ordered(">", value, smallest), value, smallest)
        return builder.select(builder.fcmp_ordered("<", value, largest), value, largest)

    return x(x), write


@instruction
def _nearest(_context: Any, x: Any) -> Typed:
    """The nearest whole number (of two, the even one)."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        kind = values[0].type
        name = "llvm.rint.f32" if kind == FLOAT else f"llvm.rint.v{kind.count}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), values)

    return x(x), write


@instruction
def _scaled(_context: Any, series: Any, _whole: Any, _x: Any) -> Typed:
    """series * 2^whole, by an integer addition to the exponent bits; 0 where x is below -126.

    The series is in [0.5, 2), so the sum stays clamped the exponent's bits.
    """

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        series, whole, x = values
        integers = shaped_like(x, INTEGER)
        shifted = builder.shl(builder.fptosi(whole, integers), shaped_like(x, INTEGER, 23))
        product = builder.bitcast(builder.add(builder.bitcast(series, integers), shifted), shaped_like(x, FLOAT))
        return builder.select(
            builder.fcmp_ordered("<", x, shaped_like(x, FLOAT, _SMALLEST)), shaped_like(x, FLOAT, 0.0), product
        )

    return series(series, series, series), write
