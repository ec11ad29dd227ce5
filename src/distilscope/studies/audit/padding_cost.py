"""Trap 11: what padding costs, counted on the lengths of real draws. No result changes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

FLOAT32 = 4
"""Bytes."""


def share_to_longest(batches: Iterable[Int[np.ndarray, " n"]]) -> float:
    """Useful share of generated tokens where every row of a batch goes on until its longest has ended."""
    useful = made = 0
    for lengths in batches:
        useful, made = useful + int(lengths.sum()), made + len(lengths) * int(lengths.max())
    return useful / made


def share_through_slots(batches: Iterable[Int[np.ndarray, " n"]], slots: int) -> float:
    """The same where a slot that is free takes the next draw: what is wasted is the end, when no draw is left to take.

    A draw's first token comes of reading the prompt, without a step of all slots.
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
    """The same where rows lie end to end and only each batch's total is rounded up to `grain`."""
    totals = np.array([int(positions.sum()) for positions in batches])
    return float(totals.sum()) / float((-(-totals // grain) * grain).sum())


def logits_bytes(positions: int, vocabulary: int) -> int:
    """What logits over the whole vocabulary take in float32."""
    return positions * vocabulary * FLOAT32
