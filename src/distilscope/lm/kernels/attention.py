"""Causal attention on a CPU, and the positions that it needs: sequences seen side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.device import send
from distilscope.lm.shared_prefixes import Prefixes

QUERIES = 64
"""Positions whose attention weights are written out at once, over the keys up to the last of them; a rest of up to half
as many goes with those before it. On a CPU in bfloat16 that is 1.1 to 2 times as fast as the fused kernel at every
length up to 512, and level with it in float32."""


def attend(
    q: Float[Tensor, "b h l d"],
    k: Float[Tensor, "b kv l d"],
    v: Float[Tensor, "b kv l d"],
    unseen: Float[Tensor, "b l l"] | None = None,
) -> Float[Tensor, "b h l d"]:
    """Causal attention, its softmax in fp32; where sequences share a row `unseen` says what to add, -inf at all that is
    not to be seen.

    Queries that share a key-value head stand together, so that neither is repeated in memory.
    """
    length, shared = q.shape[-2], q.shape[1] // k.shape[1]
    grouped, blocks = q.unflatten(1, (-1, shared)), []
    for start, end in _blocks(length):
        block = grouped[:, :, :, start:end].flatten(2, 3)
        if unseen is None:  # a block at a time: for all positions at once it would grow with their square
            bias = torch.full((end - start, end), -math.inf, device=q.device).triu(start + 1)
        else:
            bias = unseen[:, None, None, start:end, :end]
        products = torch.matmul(block, k[:, :, :end].transpose(-1, -2)).unflatten(2, (shared, -1))
        blocks.append(weigh(products, v[:, :, :end], bias).unflatten(2, (shared, -1)))
    return (blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)).flatten(1, 2)


def _blocks(length: int) -> list[tuple[int, int]]:
    """From where to where each block of queries goes."""
    starts = range(0, max(1, length - QUERIES // 2), QUERIES)
    return list(zip(starts, [*starts[1:], length], strict=True))


def weigh(
    products: Float[Tensor, "b h *q l"], v: Float[Tensor, "b h l d"], bias: Float[Tensor, ...]
) -> Float[Tensor, "b h q d"]:
    """The values weighted by the softmax, in fp32, of scaled query-key products plus a bias of 0 or -inf."""
    weights = torch.add(bias, products, alpha=v.shape[-1] ** -0.5).softmax(-1)
    return torch.matmul(weights.to(v.dtype).flatten(2, -2), v)


class PaddedView:
    """Sequences laid end to end, seen for attention alone as rows of one length that short ones share, (rows, room,
    ...); and back.

    Unless sequences fill a row each, at least one position follows the last token, and every one past it is ballast
    that no token ever sees. The padding shows a position of ballast, and ballast takes what stands at padding; no
    gradient reaches either. Of positions that end the same of some `prefixes` only the first lies there, and is seen in
    every row that needs it; that is for inference, as a gradient would be of that row alone.
    """

    def __init__(
        self, lengths: Sequence[int], grain: int, where: torch.device, prefixes: Prefixes | None = None
    ) -> None:
        total, self.room = sum(lengths), rounded(max(lengths), 16)
        of, first = (np.arange(total),) * 2 if prefixes is None else (prefixes.of, prefixes.first)
        tokens = len(first)
        self.full = prefixes is None and min(lengths) == self.room
        row, offset = _places(lengths, self.room)
        used = int(row.max()) + 1
        # where there is a gradient, a row of padding if there would be none: ballast would take a token's
        padded = not self.full and (prefixes is None or used * self.room > total)
        self.rows = used + (padded and used * self.room == total)
        self.ballast = rounded(tokens + padded, grain) - tokens
        positions = np.concatenate([np.arange(n) for n in lengths])
        self.positions = send(np.pad(positions[first], (0, self.ballast)), where)
        shown, whose = np.full(self.rows * self.room, tokens), np.full(self.rows * self.room, -1)
        places = np.repeat(row * self.room + offset, lengths) + positions
        shown[places], whose[places] = of, np.repeat(np.arange(len(lengths)), lengths)
        self.shown = send(shown, where)
        self.places = send(np.pad(places[first], (0, self.ballast), constant_values=int(shown.argmax())), where)
        self.unseen = None
        """As `attend` takes it."""
        if len(lengths) > used:
            owner = send(whose.reshape(self.rows, self.room), where)
            later = torch.ones(self.room, self.room, dtype=torch.bool, device=where).triu(1)
            apart = (owner[:, :, None] != owner[:, None]) | later
            self.unseen = torch.zeros(apart.shape, device=where).masked_fill_(apart, -math.inf)

    def pad(self, x: Float[Tensor, "t h d"]) -> Float[Tensor, "rows h room d"]:
        x = x[: self.rows * self.room] if self.full else _Rearranged.apply(x, self.shown, self.places)
        return x.unflatten(0, (self.rows, self.room)).transpose(1, 2)

    def flat(self, x: Float[Tensor, "rows h room d"]) -> Float[Tensor, "t hd"]:
        x = x.transpose(1, 2).flatten(2).flatten(0, 1)
        return F.pad(x, (0, 0, 0, self.ballast)) if self.full else _Rearranged.apply(x, self.places, self.shown)


def _places(lengths: Sequence[int], room: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Row and offset of each sequence: the longest first, each into the first row with room for it."""
    row, offset, left = (
        np.zeros(len(lengths), dtype=np.int64),
        np.zeros(len(lengths), dtype=np.int64),
        np.full(len(lengths), room),
    )
    for i in np.argsort(-np.asarray(lengths), kind="stable"):
        row[i] = first = (left >= lengths[i]).argmax()
        offset[i] = room - left[first]
        left[first] -= lengths[i]
    return row, offset


class _Rearranged(torch.autograd.Function):
    """Rows by index; the gradient by the index that leads back, instead of a sum into zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


def rounded(rows: int, grain: int) -> int:
    """Up to a multiple of the grain, from one grain on."""
    return rows if rows < grain else -(-rows // grain) * grain
