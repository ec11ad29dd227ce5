"""Moments of log-probabilities under what drew the draws, v ~ q(.|x_<t), for the positions of one piece of logits.

A loop goes over a row two or three times while it is in the processor's cache: for the maximum, for the sum of
exponentials, for the moments. torch makes some twenty passes over arrays as large as all the logits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.device import fetch
from distilscope.lm.kernels.bfloat16 import number
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.logsumexp import row_max, sum_exp
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.simd import LANES, broadcast, load, maximum, sum_lanes, weighted
from distilscope.lm.kernels.tensor_arrays import array

Numbers = Float[np.ndarray, " m"]


def loops_fit(logits: Float[Tensor, "m v"]) -> bool:
    """Whether the compiled loops are for it. Unlike `fits`, whatever torch's threads: one thread in these
    loops is faster than several in torch's operations."""
    return logits.is_cpu and logits.dtype == torch.float32


class Moments:
    """The moments under q = softmax(logits) at these positions, and log-probabilities of one target each; in nats."""

    def __init__(self, logits: Float[Tensor, "m v"], targets: Int[Tensor, " m"]) -> None:
        self.targets = targets
        self.compiled = loops_fit(logits)
        if self.compiled:
            self.logits, self.of = array(logits.contiguous()), targets.numpy()
            return
        self.log_q = logits.log_softmax(-1)
        self.q = self.log_q.exp()

    def own(self) -> tuple[Numbers, Numbers, Numbers]:
        """log q at the targets, E_v log q(v) and Var_v log q(v)."""
        if self.compiled:
            log_prob, expected, variance = (np.empty(len(self.logits), np.float32) for _ in range(3))
            _own(self.logits, self.of, log_prob, expected, variance)
            return log_prob, expected, variance
        expected = self._expectation(self.log_q)
        deviation = torch.where(self.q > 0, self.log_q - expected[:, None], 0.0)
        return _at(self.log_q, self.targets), fetch(expected), fetch((self.q * deviation.square_()).sum(-1))

    def of_other(self, logits: Float[Tensor, "m v"]) -> tuple[Numbers, Numbers]:
        """log p at the targets for p of these logits, and E_v log p(v); -inf where q can make what p cannot."""
        if self.compiled:
            log_prob, expected = (np.empty(len(self.logits), np.float32) for _ in range(2))
            _of_other(self.logits, array(logits.contiguous()), self.of, log_prob, expected)
            return log_prob, expected
        log_p = logits.log_softmax(-1)
        return _at(log_p, self.targets), fetch(self._expectation(log_p))

    def _expectation(self, values: Float[Tensor, "m v"]) -> Float[Tensor, " m"]:
        """sum_v q(v) values(v), with 0 * inf = 0."""
        return torch.where(self.q > 0, self.q * values, 0.0).sum(-1)


def log_prob_at(logits: Float[Tensor, "m v"], targets: Int[Tensor, " m"]) -> Numbers:
    """log softmax(logits) at the targets."""
    if not loops_fit(logits) or torch.get_num_threads() > 1:  # torch needs few passes for it: two threads are as fast
        return _at(logits.log_softmax(-1), targets)
    found = np.empty(len(logits), np.float32)
    _log_prob(array(logits.contiguous()), targets.numpy(), found)
    return found


def _at(values: Float[Tensor, "m v"], targets: Int[Tensor, " m"]) -> Numbers:
    return fetch(values.gather(-1, targets[:, None])[:, 0])


@compiled
def _log_prob(logits: Any, targets: Any, log_prob: Any) -> None:
    vocabulary, logits = logits.shape[1], logits.reshape(-1)
    for i in range(len(targets)):
        start = i * vocabulary
        top = row_max(logits, start, start + vocabulary)
        log_prob[i] = (
            number(logits[start + targets[i]]) - top - math.log(sum_exp(logits, start, start + vocabulary, top))
        )


@compiled
def _own(logits: Any, targets: Any, log_prob: Any, expected: Any, variance: Any) -> None:
    """log q(target), E_q log q and Var_q log q of each row.

    The moments are of log q relative to its maximum, of which the logarithm of the sum is subtracted at the end: where
    q is nearly a point mass these are near 0, so that the difference E[x^2] - E[x]^2 loses no digits.
    """
    vocabulary, logits = logits.shape[1], logits.reshape(-1)
    for i in range(len(targets)):
        start, end = i * vocabulary, (i + 1) * vocabulary
        whole = end - vocabulary % LANES
        top = row_max(logits, start, end)
        total = sum_exp(logits, start, end, top)
        firsts, seconds = broadcast(np.float32(0), LANES), broadcast(np.float32(0), LANES)
        first, second = np.float32(0), np.float32(0)
        for j in range(start, whole, LANES):
            below = load(logits, j, LANES) - top
            weight = exp2(below * LOG2_E)
            firsts = firsts + weighted(weight, below)
            seconds = seconds + weighted(weight, below * below)
        for j in range(whole, end):
            below = number(logits[j]) - top
            weight = exp2(below * LOG2_E)
            first += weighted(weight, below)
            second += weighted(weight, below * below)
        mean = (sum_lanes(firsts) + first) / total
        log_prob[i] = number(logits[start + targets[i]]) - top - math.log(total)
        expected[i] = mean - math.log(total)
        variance[i] = maximum(np.float32(0), (sum_lanes(seconds) + second) / total - mean * mean)


@compiled
def _of_other(own: Any, logits: Any, targets: Any, log_prob: Any, expected: Any) -> None:
    """log p(target) and E_q log p of each row, with q = softmax(own) and p = softmax(logits)."""
    vocabulary, own, logits = logits.shape[1], own.reshape(-1), logits.reshape(-1)
    for i in range(len(targets)):
        start, end = i * vocabulary, (i + 1) * vocabulary
        whole = end - vocabulary % LANES
        own_top, top = row_max(own, start, end), row_max(logits, start, end)
        total = sum_exp(logits, start, end, top)
        own_sums, firsts = broadcast(np.float32(0), LANES), broadcast(np.float32(0), LANES)
        own_rest, first = np.float32(0), np.float32(0)
        for j in range(start, whole, LANES):
            weight = exp2((load(own, j, LANES) - own_top) * LOG2_E)
            own_sums = own_sums + weight
            firsts = firsts + weighted(weight, load(logits, j, LANES) - top)
        for j in range(whole, end):
            weight = exp2((number(own[j]) - own_top) * LOG2_E)
            own_rest += weight
            first += weighted(weight, number(logits[j]) - top)
        log_prob[i] = number(logits[start + targets[i]]) - top - math.log(total)
        expected[i] = (sum_lanes(firsts) + first) / (sum_lanes(own_sums) + own_rest) - math.log(total)
