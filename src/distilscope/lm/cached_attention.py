"""Attention of one new token per slot over that slot's cache of keys and values: a decoding step's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.attention import weigh
from distilscope.lm.compiled import PER_NAT, array, compiled, element, fetch_ahead, fits, number, power_of_two
from distilscope.lm.hardware import send
from distilscope.lm.rotation import copy, rotate, rotated

LINE = 64
"""Bytes that come from memory together."""

BLOCK = 16
"""Weights that are exponentiated at once, of which the last may not be needed: as many as the widest registers hold."""


class CachedAttention:
    """For all layers of one step: where each slot's new token stands, and how queries and keys there are rotated."""

    def __init__(
        self, position: Int[np.ndarray, " slots"], cos: Float[Tensor, "slots d"], sin: Float[Tensor, "slots d"], room: int
    ) -> None:
        self.position, self.cos, self.sin = position, cos, sin
        self.compiled = fits(cos)
        if self.compiled:
            return
        where = cos.device
        self.rows, self.columns = torch.arange(len(position), device=where), send(position, where)
        unseen = torch.arange(room, device=where) > self.columns[:, None]
        self.bias = torch.zeros(unseen.shape, device=where).masked_fill_(unseen, -math.inf)[:, None, None]

    def __call__(
        self, heads: Float[Tensor, "slots h d"], keys: Float[Tensor, "slots kv room d"], values: Float[Tensor, "slots kv room d"]
    ) -> Float[Tensor, "slots qd"]:
        """Writes the new keys and values into the cache; what the queries then find there. `heads`: queries, keys, values, not rotated."""
        slots, total, width = heads.shape
        kv = keys.shape[1]
        queries = total - 2 * kv
        if not self.compiled:
            return self._by_torch(*rotated(heads, self.cos, self.sin, kv), keys, values)
        found = heads.new_empty(slots, queries * width)
        arrays = (array(one) for one in (heads, self.cos, self.sin, keys, values, found))
        _compiled_for(queries // kv, width)(self.position, *arrays)
        return found

    def _by_torch(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        keys[self.rows, :, self.columns], values[self.rows, :, self.columns] = k, v
        # queries that share a key-value head stand together, so that neither is ever repeated in memory
        products = torch.matmul(q.unflatten(1, (keys.shape[1], -1)), keys.transpose(-1, -2))
        return weigh(products, values, self.bias).flatten(1)


@cache
def _compiled_for(shared: int, width: int) -> Callable[..., None]:
    """The loop for so many queries to a key-value head of this width: with both known, sums stay in registers."""

    @compiled
    def attend(position: Any, heads: Any, cos: Any, sin: Any, keys: Any, values: Any, found: Any) -> None:  # noqa: PLR0912 (calls would hide sums from registers)
        kv, room, line = keys.shape[1], keys.shape[2], LINE // keys.itemsize
        scale = np.float32(PER_NAT / math.sqrt(width))
        row, sums, inverse = np.empty(width, np.float32), np.empty((shared, width), np.float32), np.empty(shared, np.float32)
        queries, weights = np.empty((shared, width), np.float32), np.empty((shared, room + BLOCK), np.float32)
        for s in range(len(position)):
            seen, c, z = position[s] + 1, cos[s], sin[s]
            for g in range(kv):
                key, value = keys[s, g], values[s, g]
                after = s * kv + g + 1  # the next one's, from memory while these are worked on
                if after < len(position) * kv:
                    next_key, next_value = keys[after // kv, after % kv].reshape(-1), values[after // kv, after % kv].reshape(-1)
                    for j in range(0, seen * width, line):
                        fetch_ahead(next_key, j)
                        fetch_ahead(next_value, j)
                rotate(heads[s, shared * kv + g], c, z, key[seen - 1])
                copy(heads[s, (shared + 1) * kv + g], value[seen - 1])
                for m in range(shared):
                    rotate(heads[s, g * shared + m], c, z, queries[m])
                for t in range(seen):
                    for j in range(width):
                        row[j] = number(key[t, j])
                    for m in range(shared):
                        product = np.float32(0)
                        for j in range(width):
                            product += row[j] * queries[m, j]
                        weights[m, t] = product * scale
                for m in range(shared):
                    inverse[m] = _exponentiate(weights[m], seen)
                    for j in range(width):
                        sums[m, j] = 0
                for t in range(seen):
                    for j in range(width):
                        row[j] = number(value[t, j])
                    for m in range(shared):
                        for j in range(width):
                            sums[m, j] += weights[m, t] * row[j]
                for m in range(shared):
                    start = (g * shared + m) * width
                    into = found[s, start : start + width]
                    for j in range(width):
                        into[j] = element(sums[m, j] * inverse[m], found)

    return attend


@compiled
def _exponentiate(weights: Any, seen: Any) -> np.float32:
    """2 to the weights less the largest of them, in place; one over their sum. In whole blocks: what is past the last becomes 0."""
    whole = -(-seen // BLOCK) * BLOCK
    highest = weights[0]
    for t in range(seen):
        highest = max(highest, weights[t])
    for t in range(seen, whole):
        weights[t] = -np.inf
    total = np.float32(0)
    for start in range(0, whole, BLOCK):
        block = weights[start : start + BLOCK]
        for t in range(BLOCK):
            block[t] = power_of_two(block[t] - highest)
            total += block[t]
    return np.float32(1) / total
