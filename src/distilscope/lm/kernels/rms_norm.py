"""Root-mean-square normalisation (Zhang & Sennrich 1910.07467), alone and together with the residual sum before it.

A row is read once, from memory or from the sum that was just written, and is then in the processor's cache for the sum
of squares and the scaling; torch goes over all rows for each of these.
"""

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
"""What `scale` is where no gradient will ask for the rows' scales."""


def rms_norm(x: Float[Tensor, "t d"], gain: Float[Tensor, " d"], eps: float) -> Float[Tensor, "t d"]:
    """Each row over its root mean square (eps is added to the square), times the gain; in fp32, and rounded once.

    Where there is a gradient, autocast rounds the result for the product that takes it. On a GPU it is torch's own.
    """
    if not fits(x):
        return F.rms_norm(x, gain.shape, gain, eps)
    if not _differentiated(x, gain):
        return _norm(x, None, x, gain, eps, x.dtype, _NOT_KEPT)
    return _Norm.apply(x, gain, eps, _loop_dtype(x)).to(_result_dtype(x))  # type: ignore[no-any-return]


def add_and_norm(
    x: Float[Tensor, "t d"], addend: Float[Tensor, "t d"], gain: Float[Tensor, " d"], eps: float
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
    """The residual stream x + addend, and its `rms_norm`."""
    if not (fits(x) and fits(addend)):
        total = x + addend
        return total, rms_norm(total, gain, eps)
    if not _differentiated(x, addend, gain):
        total = torch.empty_like(x)  # not x itself: the loop is not vectorised where both may overlap
        return total, _norm(x, addend, total, gain, eps, x.dtype, _NOT_KEPT)
    total, normed = _AddAndNorm.apply(x, addend, gain, eps, _loop_dtype(x))  # type: ignore[misc]
    return total, normed.to(_result_dtype(x))


def _differentiated(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _result_dtype(x: Tensor) -> torch.dtype:
    """That of the product that takes the result: autocast's, else the input's."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _loop_dtype(x: Tensor) -> torch.dtype:
    """The result's format where the loops can write it; float16 they cannot: it is rounded from float32 afterwards."""
    return torch.bfloat16 if _result_dtype(x) == torch.bfloat16 else torch.float32


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = x.new_empty(len(x), dtype=torch.float32)
        normed = _norm(x, None, x, gain, eps, dtype, array(scale))
        ctx.save_for_backward(x, scale, gain)
        return normed

    @staticmethod
    def backward(ctx: Any, grad_normed: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        x, scale, gain = ctx.saved_tensors
        return *_gradients(x, scale, gain, grad_normed, torch.zeros_like(x)), None, None


class _AddAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, addend: Tensor, gain: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        total = torch.empty_like(x)
        scale = x.new_empty(len(x), dtype=torch.float32)
        normed = _norm(x, addend, total, gain, eps, dtype, array(scale))
        ctx.save_for_backward(total, scale, gain)
        ctx.addend_dtype = addend.dtype
        return total, normed

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, grad_normed: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        total, scale, gain = ctx.saved_tensors
        grad_x, grad_gain = _gradients(total, scale, gain, grad_normed, grad_total)
        return grad_x, grad_x.to(ctx.addend_dtype), grad_gain, None, None


def _norm(
    x: Tensor, addend: Tensor | None, total: Tensor, gain: Tensor, eps: float, dtype: torch.dtype, scale: np.ndarray
) -> Tensor:
    """The norm of x, or of x + addend, which is written to `total`; one over each row's root mean square is written to
    `scale`."""
    normed = torch.empty_like(x, dtype=dtype)
    if addend is not None:
        _add_rows(array(x), array(addend), array(total), array(gain), np.float32(eps), array(normed), scale)
    else:
        _norm_rows(array(x), array(gain), np.float32(eps), array(normed), scale)
    return normed


def _gradients(
    x: Tensor, scale: Tensor, gain: Tensor, grad_normed: Tensor, grad_total: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the gain, from that of the norm of x and that of x itself (the residual stream)."""
    grad_x, grad_gain = torch.empty_like(x), torch.zeros_like(gain, dtype=torch.float32)
    tensors = (x, scale, gain, grad_normed.contiguous(), grad_total.contiguous(), grad_x, grad_gain)
    _gradient_rows(*map(array, tensors))
    return grad_x, grad_gain.to(gain.dtype)


@compiled
def _norm_rows(x: Any, gain: Any, eps: Any, normed: Any, scale: Any) -> None:
    for i in range(len(x)):
        one = _norm_row(x[i], gain, eps, normed[i])
        if len(scale):
            scale[i] = one


@compiled
def _add_rows(x: Any, addend: Any, total: Any, gain: Any, eps: Any, normed: Any, scale: Any) -> None:
    for i in range(len(x)):
        row, added, into = x[i], addend[i], total[i]
        for j in range(len(row)):
            into[j] = element(number(row[j]) + number(added[j]), into)
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
def _gradient_rows(
    x: Any, scale: Any, gain: Any, grad_normed: Any, grad_total: Any, grad_x: Any, grad_gain: Any
) -> None:
    width = x.shape[1]
    for i in range(len(x)):
        row, up, extra, into = x[i], grad_normed[i], grad_total[i], grad_x[i]
        length = np.float32(0)  # of the gradient along the row: normalisation takes it away
        for j in range(width):
            length += number(row[j]) * number(up[j]) * number(gain[j])
        length *= scale[i] * scale[i] * scale[i] / np.float32(width)
        for j in range(width):
            grad_gain[j] += number(row[j]) * scale[i] * number(up[j])
            into[j] = element(
                number(up[j]) * number(gain[j]) * scale[i] - number(row[j]) * length + number(extra[j]), into
            )
