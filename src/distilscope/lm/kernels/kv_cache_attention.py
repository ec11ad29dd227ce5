"""A decoding step's attention: one new token per slot, over that slot's cache of keys and values.

Memory bandwidth is what such a step costs: every cached key and value is read once. The loop rotates, writes the new
key and value into the cache, and attends, head by head, with all queries that share a key-value head at once, and asks
for the next head's memory in the meantime. torch gathers the slots' caches into a copy first, whenever not all slots
are stepped in order.
"""

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
from distilscope.lm.kernels.attention import softmax_times_values
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.rotary import rotate_head, rotated
from distilscope.lm.kernels.simd import LANES, broadcast, load, prefetch, store, sum_lanes
from distilscope.lm.kernels.tensor_arrays import array, fits


class CachedAttention:
    """One step's attention, for all layers: the slot and position of each new token, and its rotary tables.

    `also` names slots whose caches take the same new keys and values, and of which token: slots whose sequences are
    still equal are computed once.
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
        self.mask = torch.zeros(unseen.shape, device=where).masked_fill_(unseen, -math.inf)[:, None, None]

    def __call__(
        self,
        heads: Float[Tensor, "n h d"],
        keys: Float[Tensor, "slots kv room d"],
        values: Float[Tensor, "slots kv room d"],
    ) -> Float[Tensor, "n qd"]:
        """Writes the new keys and values into the cache; returns what the queries then attend to, in memory that the
        next call may write over.

        `heads` holds queries, keys and values, not yet rotated.
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
        # queries that share a key-value head are multiplied with it together, so that neither is repeated in memory
        products = torch.matmul(q.unflatten(1, (keys.shape[1], -1)), keys.transpose(-1, -2))
        return softmax_times_values(products, values, self.mask).flatten(1)


@cache
def _compiled_for(shared: int, width: int) -> Callable[..., None]:
    """The loop for `shared` queries to a key-value head of this width, which is a vector's number of lanes.

    Arrays are made flat and places computed: a slice in a loop would count references, which costs more than reading
    it.
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
        scale = np.float32(LOG2_E / math.sqrt(width))  # log2(e) is put into the queries: exp(x) is then one 2^x
        most = room + LANES  # per query; the last vector may reach past `seen`, where nothing is read
        highest, weights = np.empty(shared, np.float32), np.zeros(shared * most, np.float32)
        for i in range(len(slot)):
            seen, c, z = position[i] + 1, load(cos, i * width, width), load(sin, i * width, width)
            first = i * kv * (shared + 2)
            for g in range(kv):
                cached = (slot[i] * kv + g) * room * width
                # the next head's cache: while the last query here reads a row, the same row there is prefetched, so
                # that memory is never asked for all at once and never idle
                after = cached + room * width if g + 1 < kv else slot[min(i + 1, len(slot) - 1)] * kv * room * width
                latest = cached + position[i] * width
                store(rotate_head(load(heads, (first + shared * kv + g) * width, width), c, z), keys, latest)
                store(load(heads, (first + (shared + 1) * kv + g) * width, width), values, latest)
                for m in range(shared):  # scores, and each query's largest
                    query = rotate_head(load(heads, (first + g * shared + m) * width, width), c, z) * scale
                    largest = np.float32(-np.inf)
                    for t in range(seen):
                        if m == shared - 1:
                            prefetch(keys, after + t * width, width)
                        product = sum_lanes(query * load(keys, cached + t * width, width))
                        weights[m * most + t] = product
                        largest = product if product > largest else largest
                    highest[m] = largest
                for m in range(shared):  # exponentials relative to it
                    for start in range(m * most, m * most + seen, LANES):
                        store(exp2(load(weights, start, LANES) - highest[m]), weights, start)
                for m in range(shared):  # the weighted sum of values, divided once at the end
                    total, sums = np.float32(0), broadcast(np.float32(0), width)
                    for t in range(seen):
                        weight = weights[m * most + t]
                        total += weight
                        if m == shared - 1:
                            prefetch(values, after + t * width, width)
                        sums = sums + load(values, cached + t * width, width) * weight
                    store(sums * (np.float32(1) / total), found, ((i * kv + g) * shared + m) * width)
        for j in range(len(others)):  # slots with the same tokens take copies
            i = of[j]
            for g in range(kv):
                latest, same = (slot[i] * kv + g) * room + position[i], (others[j] * kv + g) * room + position[i]
                store(load(keys, latest * width, width), keys, same * width)
                store(load(values, latest * width, width), values, same * width)

    return attend
