"""What logits are normalised by, in compiled loops: the largest of a row and the sum of its exponentials over that."""

from __future__ import annotations

from typing import Any

import numpy as np

from distilscope.lm.kernels.bfloat16 import number
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.simd import LANES, broadcast, load, maximum, store, sum_lanes

SEVERAL = 4 * LANES
"""Elements whose maxima are found side by side: each waits for the one before it, a few instructions long."""


@compiled
def row_max(logits: Any, start: Any, end: Any) -> Any:
    """Of these elements of an array of one dimension in one piece; no number where one of them is none."""
    whole, several, edge = (
        end - (end - start) % SEVERAL,
        broadcast(np.float32(-np.inf), SEVERAL),
        np.empty(SEVERAL, np.float32),
    )
    for j in range(start, whole, SEVERAL):
        several = maximum(several, load(logits, j, SEVERAL))
    store(several, edge, 0)
    top = edge[0]
    for one in edge:
        top = maximum(top, one)
    for j in range(whole, end):
        top = maximum(top, number(logits[j]))
    return top


@compiled
def sum_exp(logits: Any, start: Any, end: Any, top: Any) -> Any:
    """The sum of their exponentials, over that of `top`."""
    whole, several, rest = end - (end - start) % LANES, broadcast(np.float32(0), LANES), np.float32(0)
    for j in range(start, whole, LANES):
        several = several + exp2((load(logits, j, LANES) - top) * LOG2_E)
    for j in range(whole, end):
        rest += exp2((number(logits[j]) - top) * LOG2_E)
    return sum_lanes(several) + rest
