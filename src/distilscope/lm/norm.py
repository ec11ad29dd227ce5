"""Root-mean-square normalisation (Zhang & Sennrich 1910.07467), by hand where torch has it not in one piece."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.compiled import array, compiled, element, fits, number, over_rows


def rms_norm(x: Float[Tensor, "t d"], gain: Float[Tensor, " d"], eps: float) -> Float[Tensor, "t d"]:
    """Each row over its root mean square (eps is added to the square), times the gain; in fp32, and rounded once.

    Torch's own, which is one kernel on a GPU. On a processor torch makes it, and its derivative, of many small operations: without a
    gradient it is one loop here, and with one it is written out by hand, with which a small model's training step took 95 instead of 98 ms.
    Where there is a gradient, autocast rounds the result for the product that takes it.
    """
    if torch.is_grad_enabled() and (x.requires_grad or gain.requires_grad):
        if x.dtype != torch.float32 or not x.is_cpu:
            return F.rms_norm(x, gain.shape, gain, eps)
        rounded = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return _RMSNorm.apply(x, gain, eps, rounded)  # type: ignore[no-any-return]
    if not fits(x):
        return F.rms_norm(x, gain.shape, gain, eps)
    normed = torch.empty_like(x)
    over_rows(_norm, *x.shape, array(x), array(gain), np.float32(eps), array(normed))
    return normed


def add_and_norm(
    x: Float[Tensor, "t d"], more: Float[Tensor, "t d"], gain: Float[Tensor, " d"], eps: float
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
    """The sum x + more, and its `rms_norm`. Without a gradient the sum may take x's own memory."""
    if (torch.is_grad_enabled() and (x.requires_grad or more.requires_grad or gain.requires_grad)) or not (fits(x) and fits(more)):
        total = x + more
        return total, rms_norm(total, gain, eps)
    normed = torch.empty_like(x)
    over_rows(_add_and_norm, *x.shape, array(x), array(more), array(gain), np.float32(eps), array(normed))
    return x, normed


@compiled
def _norm(first: Any, end: Any, x: Any, gain: Any, eps: Any, normed: Any) -> None:
    for i in range(first, end):
        _norm_row(x[i], gain, eps, normed[i])


@compiled
def _add_and_norm(first: Any, end: Any, x: Any, more: Any, gain: Any, eps: Any, normed: Any) -> None:
    for i in range(first, end):
        row, addend = x[i], more[i]
        for j in range(len(row)):
            row[j] = element(number(row[j]) + number(addend[j]), row)
        _norm_row(row, gain, eps, normed[i])


@compiled
def _norm_row(row: Any, gain: Any, eps: Any, normed: Any) -> None:
    total = np.float32(0)
    for j in range(len(row)):
        total += number(row[j]) * number(row[j])
    scale = np.float32(1 / math.sqrt(total / np.float32(len(row)) + eps))
    for j in range(len(row)):
        normed[j] = element(number(row[j]) * scale * number(gain[j]), normed)


def _over_length(x: Float[Tensor, "t d"], eps: float) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t 1"]]:
    """Each row over its root mean square, and one over that."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
    return x * scale, scale


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        normed, scale = _over_length(x, eps)
        ctx.save_for_backward(normed, scale, gain)
        return (normed * gain).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        normed, scale, gain = ctx.saved_tensors
        gradient = gradient.float()
        per_gain = gradient * normed
        along = per_gain.mv(gain)[:, None] / -normed.shape[-1]  # what changes only a row's length is lost
        return (gradient * gain).addcmul_(normed, along).mul_(scale), per_gain.sum(0), None, None
