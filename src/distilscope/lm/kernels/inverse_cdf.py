"""Draws tokens by inversion: the token at which a cumulative distribution passes a uniform number.

Sums run in two levels, the upper one in double precision: first the block of tokens, then the token within it. A token
of probability zero is never drawn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.device import fetch, send
from distilscope.lm.kernels.bfloat16 import number
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.logsumexp import row_max, sum_exp
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.tensor_arrays import array, fits, in_rows


def invert_cdf(
    logits: Float[Tensor, "n v"], uniforms: Float[np.ndarray, " m"], rows: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The token at which the cumulative distribution of each of these rows passes its uniform number, and its
    log-probability (nats)."""
    whole = in_rows(logits)
    if not fits(whole):
        found = _by_torch(logits.index_select(0, send(rows, logits.device)).float(), send(uniforms, logits.device))
        return fetch(found[0]), fetch(found[1])
    tokens, log_prob, vocabulary = (
        np.empty(len(rows), dtype=np.int64),
        np.empty(len(rows), dtype=np.float32),
        logits.shape[1],
    )
    _invert(array(whole), vocabulary, rows, uniforms, _width(vocabulary), tokens, log_prob)
    return tokens, log_prob


def _width(vocabulary: int) -> int:
    """Tokens of a block: about the square root of all."""
    return 2 ** math.ceil(math.log2(max(2, vocabulary)) / 2)


SOME = 2048
"""Tokens whose largest logit all are exponentiated over, unless another is far maximum: the largest of all would cost a
pass over them."""

ENOUGH = 2.0**40
"""A mass over that of this logit that shows another to be far maximum, or this one to be no number."""


@compiled
def _sum_up(logits: Any, first: Any, end: Any, width: Any, top: Any, sums: Any) -> Any:
    """The mass of all, over that of `top`, and what each block adds it up to."""
    all_mass = 0.0
    for k in range(len(sums)):
        start = first + k * width
        all_mass += sum_exp(logits, start, min(start + width, end), top)
        sums[k] = all_mass
    return all_mass


@compiled
def _invert(logits: Any, vocabulary: Any, rows: Any, uniforms: Any, width: Any, tokens: Any, log_prob: Any) -> None:
    apart, logits = logits.shape[1], logits.reshape(-1)
    sums = np.empty(-(-vocabulary // width), np.float64)
    for i in range(len(rows)):
        first = rows[i] * apart
        end = first + vocabulary
        top = row_max(logits, first, min(first + SOME, end))
        all_mass = _sum_up(logits, first, end, width, top, sums)
        if not all_mass < ENOUGH:
            top = row_max(logits, first, end)
            all_mass = _sum_up(logits, first, end, width, top, sums)
        target, k = uniforms[i] * all_mass, 0
        while sums[k] <= target and sums[k] < all_mass:  # at most the last block that adds anything
            k += 1
        start = first + k * width
        before, found = sums[k - 1] if k else 0.0, start
        for j in range(start, min(start + width, end)):
            added = exp2((number(logits[j]) - top) * LOG2_E)
            if added > 0:
                found = j
                before += added
                if before > target:
                    break
        tokens[i] = found - first
        log_prob[i] = np.float64(number(logits[found])) - np.float64(top) - math.log(all_mass)


def _by_torch(
    logits: Float[Tensor, "n v"], uniforms: Float[Tensor, " n"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The same by torch's operations, on the device where the logits are."""
    probs = logits.softmax(-1)
    width = _width(probs.shape[-1])
    missing = -probs.shape[-1] % width
    blocks = (torch.nn.functional.pad(probs, (0, missing)) if missing else probs).unflatten(-1, (-1, width))
    rows = torch.arange(len(probs), device=probs.device)
    sums = blocks.sum(-1, dtype=torch.float32).double().cumsum(-1)
    target = uniforms.double() * sums[:, -1]
    block = _first_above(sums, target)
    before = torch.where(block > 0, sums[rows, (block - 1).clamp(min=0)], 0.0)
    inside = blocks[rows, block].double().cumsum(-1)
    token = block * width + _first_above(inside, target - before)
    return token, probs[rows, token].log()


def _first_above(cumulative: Float[Tensor, "n m"], target: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The first index whose cumulative sum exceeds the target, at most the last index that adds anything."""
    last = (cumulative < cumulative[:, -1:]).sum(-1)
    return torch.minimum((cumulative <= target[:, None]).sum(-1), last)
