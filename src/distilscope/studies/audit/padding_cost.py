"""Trap 11: the cost of padding, counted on the lengths of real draws. No result changes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

FLOAT32 = 4
"""Bytes of a float32."""


def share_to_longest(batches: Iterable[Int[np.ndarray, " n"]]) -> float:
    """Useful share of generated tokens if every row of a batch is generated until the longest has ended."""
    useful = made = 0
    for lengths in batches:
        useful, made = useful + int(lengths.sum()), made + len(lengths) * int(lengths.max())
    return useful / made


def share_through_slots(batches: Iterable[Int[np.ndarray, " n"]], slots: int) -> float:
    """Useful share of generated tokens if a free slot takes the next draw: only the end is wasted, when none is left.

    A draw's first token comes from the prompt's forward pass, without a step of all slots.
    """
    useful = made = 0
    for lengths in batches:
        width = min(slots, len(lengths))
        busy_until = [0] * width
        for length in lengths.tolist():
            heapq.heappush(busy_until, heapq.heappop(busy_until) + length - 1)
        useful, made = useful + int(lengths.sum()), made + len(lengths) + width * max(busy_until)
    return useful / made


def share_padded(positions: Int[np.ndarray, " n"], length: int) -> float:
    """Useful share of the positions that a network computes, each row padded to `length`."""
    return float(positions.sum()) / (len(positions) * length)


def share_rounded(batches: Iterable[Int[np.ndarray, " n"]], grain: int) -> float:
    """Useful share of positions if rows lie end to end and only each batch's total is rounded up to `grain`."""
    totals = np.array([int(positions.sum()) for positions in batches])
    return float(totals.sum()) / float((-(-totals // grain) * grain).sum())


def logits_bytes(positions: int, vocabulary: int) -> int:
    """Bytes of the logits over the whole vocabulary in float32."""
    return positions * vocabulary * FLOAT32
