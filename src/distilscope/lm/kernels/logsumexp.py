"""What logits are normalised by, in compiled loops: the largest of a row and the sum of its exponentials over that."""

from __future__ import annotations

from typing import Any

import numpy as np

from distilscope.lm.kernels.exp2 import PER_NAT, power_of_two
from distilscope.lm.kernels.numba_cache import compiled, number
from distilscope.lm.kernels.simd import BLOCK, lanes, larger, put, spread, total

SEVERAL = 4 * BLOCK
"""Elements whose maxima are found side by side: each waits for the one before it, a few instructions long."""


@compiled
def largest(logits: Any, start: Any, end: Any) -> Any:
    """Of these elements of an array of one dimension in one piece; no number where one of them is none."""
    whole, several, edge = (
        end - (end - start) % SEVERAL,
        spread(np.float32(-np.inf), SEVERAL),
        np.empty(SEVERAL, np.float32),
    )
    for j in range(start, whole, SEVERAL):
        several = larger(several, lanes(logits, j, SEVERAL))
    put(several, edge, 0)
    top = edge[0]
    for one in edge:
        top = larger(top, one)
    for j in range(whole, end):
        top = larger(top, number(logits[j]))
    return top


@compiled
def mass(logits: Any, start: Any, end: Any, top: Any) -> Any:
    """The sum of their exponentials, over that of `top`."""
    whole, several, rest = end - (end - start) % BLOCK, spread(np.float32(0), BLOCK), np.float32(0)
    for j in range(start, whole, BLOCK):
        several = several + power_of_two((lanes(logits, j, BLOCK) - top) * PER_NAT)
    for j in range(whole, end):
        rest += power_of_two((number(logits[j]) - top) * PER_NAT)
    return total(several) + rest
