"""Equal prefixes of several sequences: positions that end the same prefix have the same hidden state, which is then
computed once.

All sequences after one prompt share at least that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer


@dataclass(frozen=True)
class Prefixes:
    """The distinct prefixes of sequences that lie end to end, numbered in the order in which they first occur."""

    of: Int[np.ndarray, " t"]
    """The number of the prefix that each position ends."""
    first: Int[np.ndarray, " n"]
    """The first position that ends each prefix."""

    @classmethod
    def among(cls, rows: Sequence[Integer[np.ndarray, " _"]]) -> Prefixes:
        lengths = np.array([len(row) for row in rows])
        real = np.arange(lengths.max()) < lengths[:, None]
        tokens = np.zeros(real.shape, dtype=np.int64)
        tokens[real] = np.concatenate(rows)
        most = int(tokens.max()) + 1
        found, ends, known = np.zeros(real.shape, dtype=np.int64), np.zeros(len(rows), dtype=np.int64), 0
        for at in range(real.shape[1]):  # a prefix is named by the prefix one token shorter, and that token
            alive = np.flatnonzero(real[:, at])
            numbers = np.unique(ends[alive] * most + tokens[alive, at], return_inverse=True)[1]
            ends[alive] = found[alive, at] = known + numbers
            known += int(numbers.max()) + 1
        return cls(*distinct(found[real]))


def distinct(values: Int[np.ndarray, " t"]) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " n"]]:
    """For each value its number among the distinct ones, in the order in which they first occur; and the place of each
    one's first occurrence."""
    _, first, of = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[of], first[order]
