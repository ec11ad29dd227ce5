"""Causal attention by blocks of queries, and the padded view of sequences that only attention needs.

There is no compiled loop here: it is matrix products and softmax, which torch does well.
"""

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

QUERY_BLOCK = 64
"""Queries whose attention weights are written out at once, over the keys up to the last of them; a rest of up to half
as many joins the block before it. On a CPU in bfloat16 that is 1.1 to 2 times as fast as torch's fused kernel at every
length up to 512, and as fast in float32."""


def attend(
    q: Float[Tensor, "b h l d"],
    k: Float[Tensor, "b kv l d"],
    v: Float[Tensor, "b kv l d"],
    mask: Float[Tensor, "b l l"] | None = None,
) -> Float[Tensor, "b h l d"]:
    """Causal attention, its softmax in fp32. Where sequences share a row, `mask` is what to add to the products: 0, or
    -inf at what a query must not see.

    Queries that share a key-value head are multiplied with it together, so that neither is repeated in memory.
    """
    length, shared = q.shape[-2], q.shape[1] // k.shape[1]
    grouped, blocks = q.unflatten(1, (-1, shared)), []
    for start, end in _blocks(length):
        block = grouped[:, :, :, start:end].flatten(2, 3)
        if mask is None:  # a block at a time: for all positions at once it would grow with their square
            causal = torch.full((end - start, end), -math.inf, device=q.device).triu(start + 1)
        else:
            causal = mask[:, None, None, start:end, :end]
        products = torch.matmul(block, k[:, :, :end].transpose(-1, -2)).unflatten(2, (shared, -1))
        blocks.append(softmax_times_values(products, v[:, :, :end], causal).unflatten(2, (shared, -1)))
    return (blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)).flatten(1, 2)


def _blocks(length: int) -> list[tuple[int, int]]:
    """Start and end of each block of queries."""
    starts = range(0, max(1, length - QUERY_BLOCK // 2), QUERY_BLOCK)
    return list(zip(starts, [*starts[1:], length], strict=True))


def softmax_times_values(
    products: Float[Tensor, "b h *q l"], v: Float[Tensor, "b h l d"], mask: Float[Tensor, ...]
) -> Float[Tensor, "b h q d"]:
    """The values weighted by the softmax, in fp32, of scaled query-key products plus a mask of 0 or -inf."""
    weights = torch.add(mask, products, alpha=v.shape[-1] ** -0.5).softmax(-1)
    return torch.matmul(weights.to(v.dtype).flatten(2, -2), v)


class PaddedView:
    """Sequences laid end to end, viewed for attention alone as rows of one length (rows, room, ...); and back.

    Short sequences share a row (packing); a mask keeps them apart. The flat layout ends with positions of *ballast*,
    which round its number up to a multiple of `grain` and hold no token; the rows have *padding* where no sequence
    lies. Padding is filled with a position of ballast, and ballast is filled from padding, so that no token sees either
    and no gradient comes from them. (Where each sequence fills a row there is neither.)

    With `prefixes`, positions that end the same prefix lie in the flat layout once and are copied into every row that
    has them. That is for inference: a gradient would come from one of the rows only.
    """

    def __init__(
        self, lengths: Sequence[int], grain: int, where: torch.device, prefixes: Prefixes | None = None
    ) -> None:
        total, self.room = sum(lengths), rounded_up(max(lengths), 16)
        of, first = (np.arange(total),) * 2 if prefixes is None else (prefixes.of, prefixes.first)
        tokens = len(first)
        self.full = prefixes is None and min(lengths) == self.room
        row, offset = _places(lengths, self.room)
        used = int(row.max()) + 1
        # ballast is filled from padding: if a gradient needs ballast and the rows have no padding, one row is added
        padded = not self.full and (prefixes is None or used * self.room > total)
        self.rows = used + (padded and used * self.room == total)
        self.ballast = rounded_up(tokens + padded, grain) - tokens
        positions = np.concatenate([np.arange(n) for n in lengths])
        self.positions = send(np.pad(positions[first], (0, self.ballast)), where)
        shown, whose = np.full(self.rows * self.room, tokens), np.full(self.rows * self.room, -1)
        places = np.repeat(row * self.room + offset, lengths) + positions
        shown[places], whose[places] = of, np.repeat(np.arange(len(lengths)), lengths)
        self.shown = send(shown, where)
        self.places = send(np.pad(places[first], (0, self.ballast), constant_values=int(shown.argmax())), where)
        self.mask = None
        """What `attend` takes; None where every row is one sequence."""
        if len(lengths) > used:
            owner = send(whose.reshape(self.rows, self.room), where)
            later = torch.ones(self.room, self.room, dtype=torch.bool, device=where).triu(1)
            apart = (owner[:, :, None] != owner[:, None]) | later
            self.mask = torch.zeros(apart.shape, device=where).masked_fill_(apart, -math.inf)

    def pad(self, x: Float[Tensor, "t h d"]) -> Float[Tensor, "rows h room d"]:
        x = x[: self.rows * self.room] if self.full else _Gather.apply(x, self.shown, self.places)
        return x.unflatten(0, (self.rows, self.room)).transpose(1, 2)

    def flat(self, x: Float[Tensor, "rows h room d"]) -> Float[Tensor, "t hd"]:
        x = x.transpose(1, 2).flatten(2).flatten(0, 1)
        return F.pad(x, (0, 0, 0, self.ballast)) if self.full else _Gather.apply(x, self.places, self.shown)


def _places(lengths: Sequence[int], room: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Row and offset of each sequence, by first-fit decreasing: longest first, each into the first row with room."""
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


class _Gather(torch.autograd.Function):
    """Rows by index. The gradient is a gather too, by the inverse index, instead of a scatter-add into zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


def rounded_up(rows: int, grain: int) -> int:
    """To a multiple of the grain; fewer rows than one grain stay as they are."""
    return rows if rows < grain else -(-rows // grain) * grain
