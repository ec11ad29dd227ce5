"""Loops compiled for this processor: what stands between matrix products, each array read and written once.

Torch makes it of many operations, each a pass over memory; with a processor whose matrix products are fast (AMX) that
is most of a decoding step. Numba compiles a loop when it is first called and keeps the result in the user's cache
folder. Kernels take arrays of float32, or of int16 that hold bfloat16's bits; they compute in float32, and what becomes
of a row depends on nothing but that row. On a GPU, in float16, and where torch uses several threads, its own operations
do the same work.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import extending
from numba.core import config
from numba.core.caching import FunctionCache
from torch import Tensor

from distilscope.system.cache_dir import cache_folder

Typed = tuple[Any, Callable[..., Any]]
"""The types of arguments and result, and what writes the instructions."""

INTEGER, FLOAT, SHORT = ir.IntType(32), ir.FloatType(), ir.IntType(16)


_SETTING = threading.Lock()
"""Held while Numba's folder is ours: a loop for one width is made when it is first called, by whichever threads call
it."""


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code. It adds up in another order than is written, always the same one."""
    plain = inspect.unwrap(kernel)  # without what checks shapes while tests run
    loop: Any = numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")(plain)
    settings: Any = config
    with _SETTING:
        theirs = settings.CACHE_DIR  # what else in this process is compiled stays where it is kept
        try:
            settings.CACHE_DIR = str(cache_folder() / "compiled" / _version())
            loop._cache = _WhereItCan(plain)  # what `cache=True` does, with a cache of Numba's own
        except (OSError, RuntimeError):  # no folder can be written to: compiled in every process
            pass
        finally:
            settings.CACHE_DIR = theirs
    return loop  # type: ignore[no-any-return]


class _WhereItCan(FunctionCache):
    """A loop that finds no space on a disk is made again by the next process, and the work goes on."""

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


@cache
def _version() -> str:
    """Of this folder: functions become part of what calls them, and Numba looks only whether the caller has changed."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def fits(tensor: Tensor) -> bool:
    """Whether the compiled loops are for it: on a processor, in float32 or bfloat16, in one piece, and where torch uses
    one thread.

    Torch's other threads spin between its operations, on the cores that loops of ours on threads of our own would need.
    """
    return (
        tensor.is_cpu
        and tensor.dtype in (torch.float32, torch.bfloat16)
        and tensor.is_contiguous()
        and torch.get_num_threads() == 1
    )


def in_rows(tensor: Tensor) -> Tensor:
    """In one piece: itself, or with what stands behind each of its rows up to the next one."""
    apart = tensor.stride(0)
    held = tensor.untyped_storage().nbytes() // tensor.itemsize - tensor.storage_offset()
    if tensor.is_contiguous() or tensor.stride()[1:] != (1,) or apart < tensor.shape[1] or held < len(tensor) * apart:
        return tensor
    return tensor.as_strided((len(tensor), apart), (apart, 1))


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory, bfloat16 as int16."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.numpy() if tensor.dtype == torch.float32 else tensor.view(torch.int16).numpy()


def instruction(typed: Callable[..., Typed]) -> Callable[..., Any]:
    """An operation that compiled loops may call and that Numba lacks, in LLVM's instructions."""
    return extending.intrinsic(prefer_literal=True)(inspect.unwrap(typed))


@instruction
def number(_context: Any, x: Any) -> Typed:
    """An element as float32: itself, or what bfloat16's bits mean."""
    if x == numba.float32:
        return numba.float32(x), lambda _context, _builder, _signature, values: values[0]

    return numba.float32(numba.int16), lambda _context, builder, _signature, values: meant_by_bfloat16(
        builder, values[0]
    )


@instruction
def element(_context: Any, _x: Any, into: Any) -> Typed:
    """A float32 as an element of the array `into`: itself, or the bits of the nearest bfloat16 (of two, the even
    one)."""
    if into.dtype == numba.float32:
        return numba.float32(numba.float32, into), lambda _context, _builder, _signature, values: values[0]

    return numba.int16(numba.float32, into), lambda _context, builder, _signature, values: bits_of_bfloat16(
        builder, values[0]
    )


def alike(x: Any, kind: ir.Type, value: Any = None) -> Any:
    """A type, or a constant of it, for each number of a vector x, or for x alone."""
    count = getattr(x.type, "count", None)
    kind = kind if count is None else ir.VectorType(kind, count)
    return kind if value is None else ir.Constant(kind, value if count is None else [value] * count)


def meant_by_bfloat16(builder: Any, bits: Any) -> Any:
    """The float32 that these 16 bits mean, or a vector of them."""
    return builder.bitcast(
        builder.shl(builder.zext(bits, alike(bits, INTEGER)), alike(bits, INTEGER, 16)), alike(bits, FLOAT)
    )


def bits_of_bfloat16(builder: Any, x: Any) -> Any:
    """Of the nearest one (of two, the even one), for a float32 or a vector of them."""
    bits = builder.bitcast(x, alike(x, INTEGER))
    odd = builder.and_(builder.lshr(bits, alike(x, INTEGER, 16)), alike(x, INTEGER, 1))
    rounded = builder.add(builder.add(bits, alike(x, INTEGER, 0x7FFF)), odd)
    return builder.trunc(builder.lshr(rounded, alike(x, INTEGER, 16)), alike(x, SHORT))
