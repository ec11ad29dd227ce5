"""Draws tokens by inversion: the token at which a cumulative distribution passes a uniform number.

Sums run in two levels, the upper one in double precision: first the block of tokens, then the token within it. A token of probability zero
is never drawn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.compiled import array, compiled, fits, number, ordered, unordered
from distilscope.lm.hardware import fetch, send
from distilscope.lm.power_of_two import PER_NAT, power_of_two


def invert_cdf(
    logits: Float[Tensor, "n v"], uniforms: Float[np.ndarray, " m"], rows: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The token at which the cumulative distribution of each of these rows passes its uniform number, and its log-probability (nats)."""
    if not fits(logits):
        found = _by_torch(logits.index_select(0, send(rows, logits.device)).float(), send(uniforms, logits.device))
        return fetch(found[0]), fetch(found[1])
    tokens, log_prob = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32)
    _invert(array(logits), rows, uniforms, _width(logits.shape[1]), tokens, log_prob)
    return tokens, log_prob


def _width(vocabulary: int) -> int:
    """Tokens of a block: about the square root of all."""
    return 2 ** math.ceil(math.log2(max(2, vocabulary)) / 2)


@compiled
def _invert(logits: Any, rows: Any, uniforms: Any, width: Any, tokens: Any, log_prob: Any) -> None:
    vocabulary = logits.shape[1]
    blocks = -(-vocabulary // width)
    sums = np.empty(blocks, np.float64)
    for i in range(len(rows)):
        row = logits[rows[i]]
        highest = ordered(number(row[0]))
        for j in range(vocabulary):
            highest = max(highest, ordered(number(row[j])))
        top = unordered(highest)
        total, last = 0.0, 0
        for k in range(blocks):
            block = row[k * width : (k + 1) * width]
            mass = np.float32(0)
            for j in range(len(block)):
                mass += power_of_two((number(block[j]) - top) * PER_NAT)
            total += mass
            sums[k] = total
            last = k if mass > 0 else last
        target, k = uniforms[i] * total, 0
        while k < last and sums[k] <= target:
            k += 1
        block = row[k * width : (k + 1) * width]
        before, found = sums[k - 1] if k else 0.0, 0
        for j in range(len(block)):
            mass = power_of_two((number(block[j]) - top) * PER_NAT)
            if mass > 0:
                found = j
                before += mass
                if before > target:
                    break
        tokens[i] = k * width + found
        log_prob[i] = np.float32(number(block[found]) - top - math.log(total))


def _by_torch(logits: Float[Tensor, "n v"], uniforms: Float[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
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
