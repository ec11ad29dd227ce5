"""Loops compiled for this processor: what stands between matrix products, each array read and written once.

Torch makes it of many operations, each a pass over memory; with a processor whose matrix products are fast (AMX) that is most of a decoding
step.
Numba compiles a loop when it is first called and keeps the result in the user's cache folder.
Kernels take arrays of float32, or of int16 that hold bfloat16's bits; they compute in float32, and what becomes of a row depends on
nothing but that row. On a GPU, in float16, and where torch uses several threads, its own operations do the same work.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import extending
from numba.core import cgutils, config
from torch import Tensor

from distilscope.lm.cache import cache_folder

Typed = tuple[Any, Callable[..., Any]]
"""The types of arguments and result, and what writes the instructions."""

_INTEGER, _FLOAT, _SHORT = ir.IntType(32), ir.FloatType(), ir.IntType(16)


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code. It adds up in another order than is written, always the same one."""
    plain = inspect.unwrap(kernel)  # without what checks shapes while tests run
    options = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}
    settings: Any = config
    theirs = settings.CACHE_DIR  # what else in this process is compiled stays where it is kept
    try:
        settings.CACHE_DIR = str(cache_folder() / "compiled" / _version())
        return numba.njit(cache=True, **options)(plain)
    except (OSError, RuntimeError):  # no folder can be written to: compiled in every process
        return numba.njit(**options)(plain)
    finally:
        settings.CACHE_DIR = theirs


@cache
def _version() -> str:
    """Of this file, whose functions become part of what calls them; Numba itself looks whether the caller has changed."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def fits(tensor: Tensor) -> bool:
    """Whether the compiled loops are for it: on a processor, in float32 or bfloat16, in one piece, and where torch uses one thread.

    Torch's other threads spin between its operations, on the cores that loops of ours on threads of our own would need.
    """
    return tensor.is_cpu and tensor.dtype in (torch.float32, torch.bfloat16) and tensor.is_contiguous() and torch.get_num_threads() == 1


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory, bfloat16 as int16."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.numpy() if tensor.dtype == torch.float32 else tensor.view(torch.int16).numpy()


def _instruction(typed: Callable[..., Typed]) -> Callable[..., Any]:
    """An operation that compiled loops may call and that Numba lacks, in LLVM's instructions."""
    return extending.intrinsic(inspect.unwrap(typed))


@_instruction
def number(_context: Any, x: Any) -> Typed:
    """An element as float32: itself, or what bfloat16's bits mean."""
    if x == numba.float32:
        return numba.float32(x), lambda _context, _builder, _signature, values: values[0]

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(values[0], _INTEGER), ir.Constant(_INTEGER, 16)), _FLOAT)

    return numba.float32(numba.int16), write


@_instruction
def element(_context: Any, _x: Any, into: Any) -> Typed:
    """A float32 as an element of the array `into`: itself, or the bits of the nearest bfloat16 (of two, the even one)."""
    if into.dtype == numba.float32:
        return numba.float32(numba.float32, into), lambda _context, _builder, _signature, values: values[0]

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        def constant(value: int) -> ir.Constant:
            return ir.Constant(_INTEGER, value)

        bits = builder.bitcast(values[0], _INTEGER)
        odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        rounded = builder.add(builder.add(bits, constant(0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, constant(16)), _SHORT)

    return numba.int16(numba.float32, into), write


def _turned(builder: Any, bits: Any) -> Any:
    """With all but the sign turned over where that is set, integers are in the order of the numbers; done twice, as they were."""
    negative = builder.ashr(bits, ir.Constant(_INTEGER, 31))
    return builder.xor(bits, builder.and_(negative, ir.Constant(_INTEGER, (1 << 31) - 1)))


@_instruction
def ordered(_context: Any, _x: Any) -> Typed:
    """An integer that is larger for a larger float32: of integers the largest is found several at a time, of numbers one after another."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _turned(builder, builder.bitcast(values[0], _INTEGER))

    return numba.int32(numba.float32), write


@_instruction
def unordered(_context: Any, _x: Any) -> Typed:
    """The number that `ordered` made this integer of."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.bitcast(_turned(builder, values[0]), _FLOAT)

    return numba.float32(numba.int32), write


@_instruction
def _times_power(_context: Any, _x: Any, _exponent: Any) -> Typed:
    """x times 2 to a whole number (given as float32), where x is in [0.5, 2) and the result no less than 2^-126."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        shifted = builder.shl(builder.fptosi(values[1], _INTEGER), ir.Constant(_INTEGER, 23))
        return builder.bitcast(builder.add(builder.bitcast(values[0], _INTEGER), shifted), _FLOAT)

    return numba.float32(numba.float32, numba.float32), write


@_instruction
def _nearest(_context: Any, _x: Any) -> Typed:
    """The nearest whole number."""

    def write(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [_FLOAT]), values)

    return numba.float32(numba.float32), write


@_instruction
def fetch_ahead(_context: Any, data: Any, _place: Any) -> Typed:
    """Asks for the memory at this place of an array of one dimension, which is soon to be read; nothing waits for it."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = builder.gep(context.make_array(signature.args[0])(context, builder, values[0]).data, [values[1]])
        anything = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [anything, *[_INTEGER] * 3])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, into_every_cache, of_data = (ir.Constant(_INTEGER, value) for value in (0, 3, 1))
        builder.call(prefetch, [builder.bitcast(address, anything), to_read, into_every_cache, of_data])
        return context.get_dummy_value()

    return numba.void(data, numba.int64), write


PER_NAT = np.float32(1.4426950408889634)
"""log2 of e."""

_SMALLEST, _LARGEST = np.float32(-126), np.float32(127)
_6, _5, _4, _3, _2, _1 = (np.float32(math.log(2) ** n / math.factorial(n)) for n in range(6, 0, -1))


@compiled
def power_of_two(x: np.float32) -> np.float32:
    """2^x to 4e-7 of itself, by Taylor's series about the nearest whole number; 0 below 2^-126, the smallest normal, and at most 2^127."""
    t = x if x > _SMALLEST else _SMALLEST
    t = t if t < _LARGEST else _LARGEST
    whole = _nearest(t)
    rest = t - whole
    series = np.float32((((((_6 * rest + _5) * rest + _4) * rest + _3) * rest + _2) * rest + _1) * rest + np.float32(1))
    return np.float32(0) if x < _SMALLEST else _times_power(series, whole)
