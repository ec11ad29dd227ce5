"""The two parts of log-sum-exp, for compiled loops: a row's maximum, and the sum of exponentials relative to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from distilscope.lm.kernels.bfloat16 import number
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.simd import LANES, broadcast, load, maximum, store, sum_lanes

MAX_LANES = 4 * LANES
"""A maximum waits for the one before it, a few cycles long; four vectors side by side keep the processor busy."""


@compiled
def row_max(logits: Any, start: Any, end: Any) -> Any:
    """The maximum of logits[start:end], an array of one dimension; NaN where one of them is NaN."""
    whole = end - (end - start) % MAX_LANES  # where full vectors end
    lane_max, last = broadcast(np.float32(-np.inf), MAX_LANES), np.empty(MAX_LANES, np.float32)
    for j in range(start, whole, MAX_LANES):
        lane_max = maximum(lane_max, load(logits, j, MAX_LANES))
    store(lane_max, last, 0)
    top = last[0]
    for one in last:
        top = maximum(top, one)
    for j in range(whole, end):
        top = maximum(top, number(logits[j]))
    return top


@compiled
def sum_exp(logits: Any, start: Any, end: Any, top: Any) -> Any:
    """The sum of exp(logits[start:end] - top)."""
    whole, sums, rest = end - (end - start) % LANES, broadcast(np.float32(0), LANES), np.float32(0)
    for j in range(start, whole, LANES):
        sums = sums + exp2((load(logits, j, LANES) - top) * LOG2_E)
    for j in range(whole, end):
        rest += exp2((number(logits[j]) - top) * LOG2_E)
    return sum_lanes(sums) + rest
