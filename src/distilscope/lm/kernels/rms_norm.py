"""Root-mean-square normalisation (Zhang & Sennrich 1910.07467), and the residual sum before it, in one pass over memory
each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.kernels.bfloat16 import element, number
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.tensor_arrays import array, fits

_NOT_KEPT = np.empty(0, dtype=np.float32)
"""Where nobody asks for rows' scales."""


def rms_norm(x: Float[Tensor, "t d"], gain: Float[Tensor, " d"], eps: float) -> Float[Tensor, "t d"]:
    """Each row over its root mean square (eps is added to the square), times the gain; in fp32, and rounded once.

    Where there is a gradient, autocast rounds the result for the product that takes it. On a GPU it is torch's own.
    """
    if not fits(x):
        return F.rms_norm(x, gain.shape, gain, eps)
    if not _differentiated(x, gain):
        return _norm(x, None, x, gain, eps, x.dtype, _NOT_KEPT)
    return _Norm.apply(x, gain, eps, _rounded(x)).to(_format(x))  # type: ignore[no-any-return]


def add_and_norm(
    x: Float[Tensor, "t d"], more: Float[Tensor, "t d"], gain: Float[Tensor, " d"], eps: float
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
    """The sum x + more, and its `rms_norm`."""
    if not (fits(x) and fits(more)):
        total = x + more
        return total, rms_norm(total, gain, eps)
    if not _differentiated(x, more, gain):
        total = torch.empty_like(x)  # written over x itself, a loop would go element by element
        return total, _norm(x, more, total, gain, eps, x.dtype, _NOT_KEPT)
    total, normed = _AddAndNorm.apply(x, more, gain, eps, _rounded(x))  # type: ignore[misc]
    return total, normed.to(_format(x))


def _differentiated(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _format(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _rounded(x: Tensor) -> torch.dtype:
    """The same where compiled loops can write it."""
    return torch.bfloat16 if _format(x) == torch.bfloat16 else torch.float32


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = x.new_empty(len(x), dtype=torch.float32)
        normed = _norm(x, None, x, gain, eps, dtype, array(scale))
        ctx.save_for_backward(x, scale, gain)
        return normed

    @staticmethod
    def backward(ctx: Any, along: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        x, scale, gain = ctx.saved_tensors
        return *_slope(x, scale, gain, along, torch.zeros_like(x)), None, None


class _AddAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, more: Tensor, gain: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        total = torch.empty_like(x)
        scale = x.new_empty(len(x), dtype=torch.float32)
        normed = _norm(x, more, total, gain, eps, dtype, array(scale))
        ctx.save_for_backward(total, scale, gain)
        ctx.format = more.dtype
        return total, normed

    @staticmethod
    def backward(ctx: Any, beside: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        total, scale, gain = ctx.saved_tensors
        slope, of_gain = _slope(total, scale, gain, along, beside)
        return slope, slope.to(ctx.format), of_gain, None, None


def _norm(
    x: Tensor, more: Tensor | None, total: Tensor, gain: Tensor, eps: float, dtype: torch.dtype, scale: np.ndarray
) -> Tensor:
    """The norm of x, or of x + more, which is written to `total`; one over each row's root mean square is written to
    `scale`."""
    normed = torch.empty_like(x, dtype=dtype)
    if more is not None:
        _add_rows(array(x), array(more), array(total), array(gain), np.float32(eps), array(normed), scale)
    else:
        _norm_rows(array(x), array(gain), np.float32(eps), array(normed), scale)
    return normed


def _slope(x: Tensor, scale: Tensor, gain: Tensor, along: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of x, of whose norm it is `along` and of x itself `beside`; and that of the gain."""
    slope, of_gain = torch.empty_like(x), torch.zeros_like(gain, dtype=torch.float32)
    tensors = (x, scale, gain, along.contiguous(), beside.contiguous(), slope, of_gain)
    _slope_rows(*map(array, tensors))
    return slope, of_gain.to(gain.dtype)


@compiled
def _norm_rows(x: Any, gain: Any, eps: Any, normed: Any, scale: Any) -> None:
    for i in range(len(x)):
        one = _norm_row(x[i], gain, eps, normed[i])
        if len(scale):
            scale[i] = one


@compiled
def _add_rows(x: Any, more: Any, total: Any, gain: Any, eps: Any, normed: Any, scale: Any) -> None:
    for i in range(len(x)):
        row, addend, into = x[i], more[i], total[i]
        for j in range(len(row)):
            into[j] = element(number(row[j]) + number(addend[j]), into)
        one = _norm_row(into, gain, eps, normed[i])
        if len(scale):
            scale[i] = one


@compiled
def _norm_row(row: Any, gain: Any, eps: Any, normed: Any) -> np.float32:
    squares = np.float32(0)
    for j in range(len(row)):
        squares += number(row[j]) * number(row[j])
    scale = np.float32(1 / math.sqrt(squares / np.float32(len(row)) + eps))
    for j in range(len(row)):
        normed[j] = element(number(row[j]) * scale * number(gain[j]), normed)
    return scale


@compiled
def _slope_rows(x: Any, scale: Any, gain: Any, along: Any, beside: Any, slope: Any, of_gain: Any) -> None:
    width = x.shape[1]
    for i in range(len(x)):
        row, up, extra, into = x[i], along[i], beside[i], slope[i]
        length = np.float32(0)  # what changes only a row's length is lost
        for j in range(width):
            length += number(row[j]) * number(up[j]) * number(gain[j])
        length *= scale[i] * scale[i] * scale[i] / np.float32(width)
        for j in range(width):
            of_gain[j] += number(row[j]) * scale[i] * number(up[j])
            into[j] = element(
                number(up[j]) * number(gain[j]) * scale[i] - number(row[j]) * length + number(extra[j]), into
            )
