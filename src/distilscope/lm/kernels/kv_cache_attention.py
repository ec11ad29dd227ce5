"""Attention of new tokens over their slots' caches of keys and values: a decoding step's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.device import send
from distilscope.lm.kernels.attention import weigh
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.rotary import rotate_head, rotated
from distilscope.lm.kernels.simd import LANES, broadcast, load, prefetch, store, sum_lanes
from distilscope.lm.kernels.tensor_arrays import array, fits


class CachedAttention:
    """For all layers of one step: in which slot and where each new token stands, and how queries and keys there are
    rotated.

    `also`: slots whose caches take the same new keys and values, and of which token.
    """

    def __init__(
        self,
        slot: Int[np.ndarray, " n"],
        position: Int[np.ndarray, " n"],
        cos: Float[Tensor, "n d"],
        sin: Float[Tensor, "n d"],
        *,
        room: int,
        also: tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]],
    ) -> None:
        self.slot, self.position, self.cos, self.sin = slot, position, cos, sin
        others = np.flatnonzero(slot[also[1]] != also[0])
        self.also = (also[0][others], also[1][others])
        self.compiled = fits(cos)
        if self.compiled:
            self.tables, self.found = (array(cos), array(sin)), None
            return
        where = cos.device
        self.rows, self.columns, *self.shared = (send(part, where) for part in (slot, position, *self.also))
        self.all_in_order = np.array_equal(slot, np.arange(len(slot)))
        unseen = torch.arange(room, device=where) > self.columns[:, None]
        self.bias = torch.zeros(unseen.shape, device=where).masked_fill_(unseen, -math.inf)[:, None, None]

    def __call__(
        self,
        heads: Float[Tensor, "n h d"],
        keys: Float[Tensor, "slots kv room d"],
        values: Float[Tensor, "slots kv room d"],
    ) -> Float[Tensor, "n qd"]:
        """Writes the new keys and values into the cache; what the queries then find there, which the next call may
        write over.

        `heads`: queries, keys, values, not rotated.
        """
        n, total, width = heads.shape
        kv = keys.shape[1]
        queries = total - 2 * kv
        if not self.compiled:
            return self._by_torch(*rotated(heads, self.cos, self.sin, kv), keys, values)
        if self.found is None:
            self.found = heads.new_empty(n, queries * width)
            self.into = array(self.found)
        places = (self.slot, self.position, *self.also)
        _compiled_for(queries // kv, width)(*places, array(heads), *self.tables, array(keys), array(values), self.into)
        return self.found

    def _by_torch(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        others, of = self.shared
        for all_of_them, new in ((keys, k), (values, v)):
            all_of_them[self.rows, :, self.columns] = new
            if len(others):
                all_of_them[others, :, self.columns[of]] = new[of]
        if not (self.all_in_order and len(self.rows) == len(keys)):
            keys, values = keys.index_select(0, self.rows), values.index_select(0, self.rows)
        # queries that share a key-value head stand together, so that neither is ever repeated in memory
        products = torch.matmul(q.unflatten(1, (keys.shape[1], -1)), keys.transpose(-1, -2))
        return weigh(products, values, self.bias).flatten(1)


@cache
def _compiled_for(shared: int, width: int) -> Callable[..., None]:
    """The loop for so many queries to a key-value head of this width, which must be known for a row to be in lanes.

    A slice in a loop would be counted as a reference, which costs more than reading it: arrays are of one dimension,
    and places computed.
    """

    @compiled
    def attend(
        slot: Any,
        position: Any,
        others: Any,
        of: Any,
        heads: Any,
        cos: Any,
        sin: Any,
        keys: Any,
        values: Any,
        found: Any,
    ) -> None:
        kv, room = keys.shape[1], keys.shape[2]
        heads, cos, sin, keys, values, found = (
            heads.reshape(-1), cos.reshape(-1), sin.reshape(-1), keys.reshape(-1), values.reshape(-1), found.reshape(-1)
        )  # fmt: skip
        scale = np.float32(LOG2_E / math.sqrt(width))
        most = room + LANES  # of the last block, some weights are of no meaning and not read
        highest, weights = np.empty(shared, np.float32), np.zeros(shared * most, np.float32)
        for i in range(len(slot)):
            seen, c, z = position[i] + 1, load(cos, i * width, width), load(sin, i * width, width)
            first = i * kv * (shared + 2)
            for g in range(kv):
                cached = (slot[i] * kv + g) * room * width
                # where the next one's are; the last query that reads a place here asks for them there, so that they
                # arrive one by one
                after = cached + room * width if g + 1 < kv else slot[min(i + 1, len(slot) - 1)] * kv * room * width
                latest = cached + position[i] * width
                store(rotate_head(load(heads, (first + shared * kv + g) * width, width), c, z), keys, latest)
                store(load(heads, (first + (shared + 1) * kv + g) * width, width), values, latest)
                for m in range(shared):
                    query = rotate_head(load(heads, (first + g * shared + m) * width, width), c, z) * scale
                    largest = np.float32(-np.inf)
                    for t in range(seen):
                        if m == shared - 1:
                            prefetch(keys, after + t * width, width)
                        product = sum_lanes(query * load(keys, cached + t * width, width))
                        weights[m * most + t] = product
                        largest = product if product > largest else largest
                    highest[m] = largest
                for m in range(shared):
                    for start in range(m * most, m * most + seen, LANES):
                        store(exp2(load(weights, start, LANES) - highest[m]), weights, start)
                for m in range(shared):
                    mass, sums = np.float32(0), broadcast(np.float32(0), width)
                    for t in range(seen):
                        weight = weights[m * most + t]
                        mass += weight
                        if m == shared - 1:
                            prefetch(values, after + t * width, width)
                        sums = sums + load(values, cached + t * width, width) * weight
                    store(sums * (np.float32(1) / mass), found, ((i * kv + g) * shared + m) * width)
        for j in range(len(others)):
            i = of[j]
            for g in range(kv):
                latest, same = (slot[i] * kv + g) * room + position[i], (others[j] * kv + g) * room + position[i]
                store(load(keys, latest * width, width), keys, same * width)
                store(load(values, latest * width, width), values, same * width)

    return attend
