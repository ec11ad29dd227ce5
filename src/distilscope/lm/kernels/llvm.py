"""Instructions that Numba lacks, written in LLVM's own: what `simd`, `bfloat16` and `exp2` are made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending

Typed = tuple[Any, Callable[..., Any]]
"""The types of arguments and result, and what writes the instructions."""

INTEGER, FLOAT, SHORT = ir.IntType(32), ir.FloatType(), ir.IntType(16)


def instruction(typed: Callable[..., Typed]) -> Callable[..., Any]:
    """An operation that compiled loops may call, from a function that types it and writes its instructions."""
    return extending.intrinsic(prefer_literal=True)(inspect.unwrap(typed))


def shaped_like(x: Any, kind: ir.Type, value: Any = None) -> Any:
    """The type `kind`, or a constant of it, in the shape of x: a vector of as many lanes, or a scalar."""
    count = getattr(x.type, "count", None)
    kind = kind if count is None else ir.VectorType(kind, count)
    return kind if value is None else ir.Constant(kind, value if count is None else [value] * count)
