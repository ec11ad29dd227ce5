"""Rotary position embedding (Su et al. 2104.09864), in the layout of halves: the tables' `sin` carries the minus of its first half."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distilscope.lm.compiled import array, compiled, element, fits, number


def rotated(
    heads: Float[Tensor, "t h d"], cos: Float[Tensor, "t d"], sin: Float[Tensor, "t d"], kv: int
) -> tuple[Float[Tensor, "t q d"], Float[Tensor, "t kv d"], Float[Tensor, "t kv d"]]:
    """Queries and keys rotated, and values, of heads that hold one after another; the last `kv` are values, as many before them keys."""
    sizes = (heads.shape[1] - 2 * kv, kv, kv)
    if fits(heads):
        return _Rotated.apply(heads, cos, sin, sizes)  # type: ignore[no-any-return]
    q, k, v = heads.split(sizes, dim=1)
    return _by_torch(q, cos, sin), _by_torch(k, cos, sin), v


def _by_torch(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos[:, None], torch.cat((right, left), dim=-1), sin[:, None])


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor, sizes: tuple[int, int, int]) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        parts = tuple(heads.new_empty(len(heads), size, heads.shape[2]) for size in sizes)
        _there(*map(array, (heads, cos, sin, *parts)))
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        q, k, v = (gradient.contiguous() for gradient in gradients)
        heads = q.new_empty(len(q), q.shape[1] + 2 * k.shape[1], q.shape[2])
        _back(*map(array, (heads, cos, -sin, q, k, v)))
        return heads, None, None, None


@compiled
def _there(heads: Any, cos: Any, sin: Any, q: Any, k: Any, v: Any) -> None:
    queries, kv = q.shape[1], k.shape[1]
    for i in range(len(heads)):
        for h in range(queries):
            rotate(heads[i, h], cos[i], sin[i], q[i, h])
        for h in range(kv):
            rotate(heads[i, queries + h], cos[i], sin[i], k[i, h])
            copy(heads[i, queries + kv + h], v[i, h])


@compiled
def _back(heads: Any, cos: Any, sin: Any, q: Any, k: Any, v: Any) -> None:
    queries, kv = q.shape[1], k.shape[1]
    for i in range(len(heads)):
        for h in range(queries):
            rotate(q[i, h], cos[i], sin[i], heads[i, h])
        for h in range(kv):
            rotate(k[i, h], cos[i], sin[i], heads[i, queries + h])
            copy(v[i, h], heads[i, queries + kv + h])


@compiled
def rotate(x: Any, cos: Any, sin: Any, into: Any) -> None:
    """A row of one head."""
    half = len(into) // 2
    for j in range(half):
        left, right = number(x[j]), number(x[half + j])
        into[j] = element(left * number(cos[j]) + right * number(sin[j]), into)
        into[half + j] = element(right * number(cos[half + j]) + left * number(sin[half + j]), into)


@compiled
def copy(x: Any, into: Any) -> None:
    """A row of one head, as it is."""
    for j in range(len(into)):
        into[j] = element(number(x[j]), into)
