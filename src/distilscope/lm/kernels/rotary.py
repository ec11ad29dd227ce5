"""Rotary position embedding (Su et al. 2104.09864), in the layout of halves: the tables' `sin` carries the minus of its
first half."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.simd import load, store, swap_halves
from distilscope.lm.kernels.tensor_arrays import array, fits


def rotated(
    heads: Float[Tensor, "t h d"], cos: Float[Tensor, "t d"], sin: Float[Tensor, "t d"], kv: int
) -> tuple[Float[Tensor, "t q d"], Float[Tensor, "t kv d"], Float[Tensor, "t kv d"]]:
    """Queries and keys rotated, and values, of heads that hold one after another; the last `kv` are values, as many
    before them keys."""
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
        _compiled_for(heads.shape[2], back=False)(*map(array, (heads, cos, sin, *parts)))
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        q, k, v = (gradient.contiguous() for gradient in gradients)
        heads = q.new_empty(len(q), q.shape[1] + 2 * k.shape[1], q.shape[2])
        _compiled_for(q.shape[2], back=True)(*map(array, (heads, cos, -sin, q, k, v)))
        return heads, None, None, None


@compiled
def turned(x: Any, cos: Any, sin: Any) -> Any:
    """A row of one head in lanes."""
    return x * cos + swap_halves(x) * sin


@cache
def _compiled_for(width: int, back: bool) -> Callable[..., None]:
    """The loop for heads of this width, which must be known for a row to be in lanes: from `heads` to their parts, or
    back."""

    @compiled
    def rotate(heads: Any, cos: Any, sin: Any, q: Any, k: Any, v: Any) -> None:
        rows, queries, kv = heads.shape[0], q.shape[1], k.shape[1]
        heads, cos, sin, q, k, v = (
            heads.reshape(-1),
            cos.reshape(-1),
            sin.reshape(-1),
            q.reshape(-1),
            k.reshape(-1),
            v.reshape(-1),
        )
        at = 0  # where the next head stands among all of them
        for i in range(rows):
            c, z = load(cos, i * width, width), load(sin, i * width, width)
            for h in range(i * queries, (i + 1) * queries):
                if back:
                    store(turned(load(q, h * width, width), c, z), heads, at)
                else:
                    store(turned(load(heads, at, width), c, z), q, h * width)
                at += width
            for h in range(i * kv, (i + 1) * kv):
                if back:
                    store(turned(load(k, h * width, width), c, z), heads, at)
                else:
                    store(turned(load(heads, at, width), c, z), k, h * width)
                at += width
            for h in range(i * kv, (i + 1) * kv):
                if back:
                    store(load(v, h * width, width), heads, at)
                else:
                    store(load(heads, at, width), v, h * width)
                at += width

    return rotate
