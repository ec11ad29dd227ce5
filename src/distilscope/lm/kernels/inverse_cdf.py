"""Draws tokens by inversion: the token at which a cumulative distribution passes a uniform number.

The cumulative sum has two levels, the upper one in double precision: first the block of tokens, then the token within
it. So it is exact enough for any vocabulary, and only one block is searched token by token. A token of probability zero
is never drawn.

The loop reads the logits where they lie and writes a sum per block; torch writes probabilities and cumulative sums as
large as the logits.
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
    tokens, log_prob = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
    vocabulary = logits.shape[1]
    _invert(array(whole), vocabulary, rows, uniforms, _block_size(vocabulary), tokens, log_prob)
    return tokens, log_prob


def _block_size(vocabulary: int) -> int:
    """About the square root of the vocabulary: then finding the block and the token within it cost the same."""
    return 2 ** math.ceil(math.log2(max(2, vocabulary)) / 2)


HEAD = 2048
"""Tokens whose largest logit stands in for the largest of all, which would cost another pass over them: exponentials
need only be relative to one that is not far smaller."""

TOO_MUCH = 2.0**40
"""A sum of exponentials that shows that another logit is far larger (or NaN): they are then summed again, relative to
the largest of all."""


@compiled
def _block_sums(logits: Any, first: Any, end: Any, width: Any, top: Any, sums: Any) -> Any:
    """Writes to `sums` the cumulative sum of exp(logits - top) up to each block's end; returns the whole sum."""
    total = 0.0
    for k in range(len(sums)):
        start = first + k * width
        total += sum_exp(logits, start, min(start + width, end), top)
        sums[k] = total
    return total


@compiled
def _invert(logits: Any, vocabulary: Any, rows: Any, uniforms: Any, width: Any, tokens: Any, log_prob: Any) -> None:
    """Finds for each uniform number first the block of `width` tokens and then the token; rows may be further apart in
    memory than the vocabulary is long."""
    stride, logits = logits.shape[1], logits.reshape(-1)
    sums = np.empty(-(-vocabulary // width), np.float64)
    for i in range(len(rows)):
        first = rows[i] * stride
        end = first + vocabulary
        top = row_max(logits, first, min(first + HEAD, end))
        total = _block_sums(logits, first, end, width, top, sums)
        if not total < TOO_MUCH:
            top = row_max(logits, first, end)
            total = _block_sums(logits, first, end, width, top, sums)
        target, k = uniforms[i] * total, 0
        while sums[k] <= target and sums[k] < total:  # not past the last block that adds anything
            k += 1
        start = first + k * width
        # `before`: the cumulative sum before a token; `found`: the last token of any probability up to it
        before, found = sums[k - 1] if k else 0.0, start
        for j in range(start, min(start + width, end)):
            added = exp2((number(logits[j]) - top) * LOG2_E)
            if added > 0:
                found = j
                before += added
                if before > target:
                    break
        tokens[i] = found - first
        log_prob[i] = np.float64(number(logits[found])) - np.float64(top) - math.log(total)


def _by_torch(
    logits: Float[Tensor, "n v"], uniforms: Float[Tensor, " n"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """As `_invert`, by torch's operations, on the device where the logits are."""
    probs = logits.softmax(-1)
    width = _block_size(probs.shape[-1])
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
