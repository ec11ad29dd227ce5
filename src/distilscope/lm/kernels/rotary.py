"""Rotary position embedding (Su et al. 2104.09864), in Hugging Face's layout: element i of a head is rotated with
element i + d/2.

The first half of the tables' `sin` has a minus, so that a rotation is x * cos + swapped halves of x * sin. The loop
splits queries, keys and values and rotates them in one pass; torch makes a copy for each of these steps.
"""

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
    """Rotated queries, rotated keys, and values, from heads that hold them in this order: the last `kv` are values, the
    `kv` before them keys."""
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
def rotate_head(x: Any, cos: Any, sin: Any) -> Any:
    """One head of one token, as a vector, rotated."""
    return x * cos + swap_halves(x) * sin


@cache
def _compiled_for(width: int, back: bool) -> Callable[..., None]:
    """The loop for heads of this width, which is a vector's number of lanes: from `heads` to their parts, or back (the
    gradient: the same with -sin)."""

    @compiled
    def rotate(heads: Any, cos: Any, sin: Any, q: Any, k: Any, v: Any) -> None:
        rows, queries, kv = heads.shape[0], q.shape[1], k.shape[1]
        # flat, with places computed: a slice in a loop would count references, which costs more than reading it
        heads, cos, sin = heads.reshape(-1), cos.reshape(-1), sin.reshape(-1)
        q, k, v = q.reshape(-1), k.reshape(-1), v.reshape(-1)
        at = 0  # the offset of the next head in `heads`
        for i in range(rows):
            c, z = load(cos, i * width, width), load(sin, i * width, width)
            for h in range(i * queries, (i + 1) * queries):
                if back:
                    store(rotate_head(load(q, h * width, width), c, z), heads, at)
                else:
                    store(rotate_head(load(heads, at, width), c, z), q, h * width)
                at += width
            for h in range(i * kv, (i + 1) * kv):
                if back:
                    store(rotate_head(load(k, h * width, width), c, z), heads, at)
                else:
                    store(rotate_head(load(heads, at, width), c, z), k, h * width)
                at += width
            for h in range(i * kv, (i + 1) * kv):
                if back:
                    store(load(v, h * width, width), heads, at)
                else:
                    store(load(heads, at, width), v, h * width)
                at += width

    return rotate
