"""The training loss with its derivative by hand: the logits' softmax, in their own format, is all that is kept of
it."""

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

    The logits are written over: probabilities are computed once, where the logits stood, and with the targets' lessened
    by 1 they are the gradient of the sum. The same as `cross_entropy(logits[:t].float(), targets, reduction="none")`
    with a third of its memory traffic; where torch's operations do it, to the rounding of the logits' format (2^-9 nats
    in bfloat16, whose logits are themselves no better).
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
        # the gradient of a plain sum is 1: the probabilities, not needed again, then need no copy
        slope = (
            probs
            if fetch(gradient == 1).all()
            else (probs * F.pad(gradient, (0, len(probs) - t))[:, None]).to(probs.dtype)
        )
        slope[rows, targets], slope[t:] = at_targets, 0
        return slope, None


def _by_torch(logits: Float[Tensor, "t v"], targets: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """As `_softmax`."""
    probs = logits.softmax(-1)
    at_target = probs.gather(-1, targets[:, None])[:, 0]
    losses = -at_target.float().log()
    vanishing = at_target < torch.finfo(probs.dtype).tiny  # too small for the format: no logarithm can be had from it
    if fetch(vanishing).any():
        rest = logits[vanishing].float().log_softmax(-1)
        losses[vanishing] = -rest.gather(-1, targets[vanishing][:, None])[:, 0]
    logits.copy_(probs)
    return losses


@compiled
def _softmax(logits: Any, targets: Any, losses: Any) -> None:
    """Turns the logits of each target into probabilities."""
    vocabulary, logits = logits.shape[1], logits.reshape(-1)
    powers = np.empty(vocabulary, np.float32)
    whole = vocabulary - vocabulary % LANES
    for i in range(len(targets)):
        first = i * vocabulary
        top = row_max(logits, first, first + vocabulary)
        losses[i] = top - number(logits[first + targets[i]])
        several, rest = broadcast(np.float32(0), LANES), np.float32(0)
        for j in range(0, whole, LANES):
            block = exp2((load(logits, first + j, LANES) - top) * LOG2_E)
            store(block, powers, j)
            several = several + block
        for j in range(whole, vocabulary):
            powers[j] = exp2((number(logits[first + j]) - top) * LOG2_E)
            rest += powers[j]
        mass = sum_lanes(several) + rest
        losses[i] += np.float32(math.log(mass))
        scale = np.float32(1) / mass
        for j in range(0, whole, LANES):
            store(load(powers, j, LANES) * scale, logits, first + j)
        for j in range(whole, vocabulary):
            logits[first + j] = element(powers[j] * scale, logits)
