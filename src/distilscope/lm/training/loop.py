"""Trains a network on sequences: a short loop, no padding tokens, resumable to identical weights.

The loss is the mean negative log-probability per generated token (a stopping token counted, the prompt never). The
order of sequences is a function of (key, epoch) alone, so a training that was killed and starts again from its last
checkpoint ends with the same bytes. The checkpoint kept is the one with the lowest perplexity on
held-out sequences, counted over true tokens. Several processes share each batch between them (`group`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distilscope.distribution import Key
from distilscope.errors import DistilscopeError, StoppedError
from distilscope.lm.device import autocast, device, resolved_dtype
from distilscope.lm.models.llama import Llama
from distilscope.lm.scoring import batches_of_like_length, log_prob
from distilscope.lm.sequences import Sequences
from distilscope.lm.training.batches import _Order
from distilscope.lm.training.checkpoint_file import NAME
from distilscope.lm.training.config import Training
from distilscope.lm.training.objectives.cross_entropy import token_loss
from distilscope.lm.training.process_group import ALONE, Group, gradient_in_one
from distilscope.lm.training.trainer_state import Standing
from distilscope.selectivity import UNCHANGED


@dataclass(frozen=True)
class Trained:
    """The chosen network and how it came about."""

    network: Llama
    history: list[dict[str, int | float]]
    """Per evaluation: step, mean training loss since the last one, held-out loss (nats per token)."""
    chosen_step: int
    tokens: int
    """Tokens trained on, repeats counted."""
    exact_resume: bool
    """Whether it ran, or went on after every interruption, in one number of processes: its weights are then those of
    any such training."""

    @property
    def held_out_loss(self) -> float:
        """Of the chosen network, in nats per token."""
        return chosen_loss(self.history, self.chosen_step)


def chosen_loss(history: Sequence[Mapping[str, int | float]], chosen_step: int) -> float:
    """The held-out loss of the checkpoint that was kept, in nats per token."""
    return next(float(entry["held_out_loss"]) for entry in history if entry["step"] == chosen_step)


def train(
    network: Llama,
    training: Training,
    *,
    data: Sequences,
    validation: Sequences,
    key: Key,
    scratch: Path,
    beside: Path | None = None,
    after_step: Callable[[int], object] | None = None,
    group: Group = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Trained:
    """Trains `network` in place on `data`; checkpoints live in the folder `scratch` and are taken up from there.

    Where it holds none, that of the folder `beside` is taken up, left by the same training in another number of
    processes. Every process of the `group` calls this with the same arguments; the first one writes. As soon as
    `stop_requested` says so in one of them, all save and end. Raises StoppedError then, and DistilscopeError where the
    loss stops being a number; the last checkpoint stays in `scratch`.
    """
    network.to(device())
    steps = training.steps(len(data))
    evaluation_steps = training.evaluation_steps(len(data))
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )
    precision = getattr(torch, resolved_dtype(training.precision))
    scaler = _scaler(precision, len(data.ids) * training.batch_sequences // len(data))
    progress = Standing(scratch, network, optimizer, scaler, group=group, beside=beside)
    order = _Order(len(data), training.batch_sequences, key)
    gradient = gradient_in_one(network) if group.size > 1 else None
    for step in range(progress.step, steps):
        for settings in optimizer.param_groups:
            settings["lr"] = training.rate(step, steps)
        batch = data.take(order.rows(step))
        loss = _backward(network, group.share(batch), training.microbatch_tokens, precision, scaler)
        loss, stopping = group.totals(loss, float(stop_requested()))
        if gradient is not None:
            group.add_up(gradient)
        loss /= len(batch.ids)
        scaler.unscale_(optimizer)
        norm = _average_and_clip(network, len(batch.ids), training.clip)
        # a smaller scale may still do, down to where that of the mean loss is 1
        overflowed = scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() * len(batch.ids) > 1
        if not (math.isfinite(loss) and (math.isfinite(norm) or overflowed)):
            if _finite(network):
                progress.save(network, optimizer, scaler)
            kept = (
                f"the last checkpoint is kept in {scratch}"
                if (scratch / NAME).exists()
                else "no checkpoint had been due"
            )
            raise DistilscopeError(
                f"the training loss is {loss} and its gradient's norm {norm} at step {step + 1} of {steps}; lower "
                "training.learning_rate "
                f"(now {training.learning_rate:g}) and run again; {kept}"
            )
        scaler.step(optimizer)  # not taken where a scaled gradient overflowed
        scaler.update()
        optimizer.zero_grad(set_to_none=gradient is None)
        progress.count(loss, len(batch.ids))
        if step + 1 in evaluation_steps:
            progress.evaluated(network, held_out_loss(network, validation, group))
        if ((step + 1) % training.checkpoint_every == 0 or stopping) and step + 1 < steps and _finite(network):
            progress.save(network, optimizer, scaler)
        if after_step is not None:
            after_step(step + 1)
        if stopping and step + 1 < steps:
            raise StoppedError(
                f"the training was told to end after step {step + 1} of {steps}; run again to go on from its checkpoint"
            )
    network.load_state_dict(progress.best)
    return Trained(network, progress.history, progress.chosen_step, progress.tokens, progress.exact)


def _scaler(precision: torch.dtype, tokens: int) -> torch.amp.GradScaler:
    """For float16. It begins at the library's own scale for a mean over a batch of `tokens`: what is scaled here is
    their sum."""
    return torch.amp.GradScaler(
        device().type, init_scale=2.0 ** (16 - tokens.bit_length()), enabled=precision == torch.float16
    )


def _backward(
    network: Llama, batch: Sequences, most_tokens: int, precision: torch.dtype, scaler: torch.amp.GradScaler
) -> float:
    """Accumulates the (scaled) gradient of the batch's loss, summed over its tokens; returns that loss."""
    total = 0.0
    for rows in batches_of_like_length(batch.positions, most_tokens):
        part = batch.take(rows)
        with autocast(network.device, precision):
            loss = token_loss(network, part).sum()
        scaler.scale(loss).backward()
        total += float(loss.detach())
    return total


def _average_and_clip(network: Llama, tokens: int, clip: float) -> float:
    """Turns the gradient of a sum over tokens into that of their mean, no longer than `clip`; returns its length before
    that."""
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients, foreach=True)) / tokens
    for gradient in gradients:
        gradient.mul_(min(1.0, clip / (norm + 1e-6)) / tokens)
    return norm


def _finite(network: Llama) -> bool:
    """Whether the weights are worth keeping; if not, the next step stops the training and the checkpoint before
    stays."""
    return all(bool(weight.isfinite().all()) for weight in network.parameters())


def held_out_loss(network: Llama, sequences: Sequences, group: Group = ALONE) -> float:
    """Mean negative log-probability per true token (nats), in the weights' own precision; its exponential is the
    perplexity."""
    dealt = list(batches_of_like_length(sequences.positions, 1024))[group.rank :: group.size]
    rows = np.sort(np.concatenate(dealt)) if dealt else np.zeros(0, dtype=np.int64)
    found = log_prob((network.frozen(), UNCHANGED), sequences.take(rows))
    (total,) = group.totals(float(found.sum(dtype=np.float64)))
    return -total / len(sequences.ids)
