"""Softmax cross entropy with its gradient in the same memory.

torch's own makes an fp32 copy of the logits, their log-softmax and a gradient, each as large as (tokens, vocabulary).
Here the probabilities are written over the logits in one pass, and with 1 taken from each target's they are the
gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.device import fetch
from distilscope.lm.kernels.bfloat16 import element, number
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.logsumexp import row_max
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.simd import LANES, broadcast, load, store, sum_lanes
from distilscope.lm.kernels.tensor_arrays import array, fits


def negative_log_prob(logits: Float[Tensor, "rows v"], targets: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """-log softmax(logits) at each position's target, in nats and fp32; rows past the last target count for nothing.

    The logits are written over, first by their probabilities and then by the gradient. The same as
    `cross_entropy(logits[:t].float(), targets, reduction="none")` with a third of its memory traffic; by torch's
    operations, to the rounding of the logits' format (2^-9 nats in bfloat16, whose logits are themselves no better).
    """
    return _NegativeLogProb.apply(logits, targets)  # type: ignore[no-any-return]


class _NegativeLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        if fits(logits):
            losses = torch.empty(len(targets))
            _softmax(array(logits), targets.numpy(), array(losses))
        else:
            losses = _by_torch(logits[: len(targets)], targets)
        ctx.save_for_backward(logits, targets)
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        probs, targets = ctx.saved_tensors
        t, rows = len(targets), torch.arange(len(targets), device=targets.device)
        at_targets = ((probs[rows, targets].float() - 1) * gradient).to(probs.dtype)
        if fetch(gradient == 1).all():  # of a plain sum: the probabilities, not needed again, need no copy
            grad_logits = probs
        else:
            grad_logits = (probs * F.pad(gradient, (0, len(probs) - t))[:, None]).to(probs.dtype)
        grad_logits[rows, targets], grad_logits[t:] = at_targets, 0
        return grad_logits, None


def _by_torch(logits: Float[Tensor, "t v"], targets: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """As `_softmax`, by torch's operations."""
    probs = logits.softmax(-1)
    at_target = probs.gather(-1, targets[:, None])[:, 0]
    losses = -at_target.float().log()
    # too small for the format: its logarithm is that of rounding, so it is taken from the logits
    vanishing = at_target < torch.finfo(probs.dtype).tiny
    if fetch(vanishing).any():
        rest = logits[vanishing].float().log_softmax(-1)
        losses[vanishing] = -rest.gather(-1, targets[vanishing][:, None])[:, 0]
    logits.copy_(probs)
    return losses


@compiled
def _softmax(logits: Any, targets: Any, losses: Any) -> None:
    """Writes probabilities over the logits and -log p(target) to `losses`, row by row.

    A row's exponentials are kept in fp32 between the sum and the division: a row is read from memory once, and is
    rounded once.
    """
    vocabulary, logits = logits.shape[1], logits.reshape(-1)
    exps = np.empty(vocabulary, np.float32)
    whole = vocabulary - vocabulary % LANES
    for i in range(len(targets)):
        first = i * vocabulary
        top = row_max(logits, first, first + vocabulary)
        losses[i] = top - number(logits[first + targets[i]])
        sums, rest = broadcast(np.float32(0), LANES), np.float32(0)
        for j in range(0, whole, LANES):
            block = exp2((load(logits, first + j, LANES) - top) * LOG2_E)
            store(block, exps, j)
            sums = sums + block
        for j in range(whole, vocabulary):
            exps[j] = exp2((number(logits[first + j]) - top) * LOG2_E)
            rest += exps[j]
        sum_exp = sum_lanes(sums) + rest
        losses[i] += np.float32(math.log(sum_exp))
        scale = np.float32(1) / sum_exp
        for j in range(0, whole, LANES):
            store(load(exps, j, LANES) * scale, logits, first + j)
        for j in range(whole, vocabulary):
            logits[first + j] = element(exps[j] * scale, logits)
