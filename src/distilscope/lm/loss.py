"""The training loss with its derivative by hand: the logits' softmax, in their own format, is all that is kept of it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.hardware import fetch


def negative_log_prob(logits: Float[Tensor, "rows v"], targets: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """-log softmax(logits) at each position's target, in nats and fp32; rows past the last target count for nothing.

    The same as `cross_entropy(logits[:t].float(), targets, reduction="none")` to the rounding of the logits' format (2^-9 nats in bfloat16,
    whose logits are themselves no better), with a third of its memory traffic: probabilities are computed once, and
    with the targets' lessened by 1 they are the gradient of the sum.
    """
    return _NegativeLogProb.apply(logits, targets)  # type: ignore[no-any-return]


class _NegativeLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        probs, t = logits.softmax(-1), len(targets)
        ctx.save_for_backward(probs, targets)
        at_target = probs[:t].gather(-1, targets[:, None])[:, 0]
        losses = -at_target.float().log()
        vanishing = at_target < torch.finfo(probs.dtype).tiny  # too small for the format: no logarithm can be had from it
        if fetch(vanishing).any():
            rest = logits[:t][vanishing].float().log_softmax(-1)
            losses[vanishing] = -rest.gather(-1, targets[vanishing][:, None])[:, 0]
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        probs, targets = ctx.saved_tensors
        t, rows = len(targets), torch.arange(len(targets), device=targets.device)
        at_targets = ((probs[rows, targets].float() - 1) * gradient).to(probs.dtype)
        # the gradient of a plain sum is 1: the probabilities, not needed again, then need no copy
        slope = probs if fetch(gradient == 1).all() else (probs * F.pad(gradient, (0, len(probs) - t))[:, None]).to(probs.dtype)
        slope[rows, targets], slope[t:] = at_targets, 0
        return slope, None
