"""Trains a network on sequences: a short loop, no padding tokens, resumable to identical weights.

What it minimises is the mean of an `Objective` per generated token (a stopping token counted, the prompt never). What
a step sees is a function of (key, step) alone (`BatchSource`), so a training that was killed and starts again from its
last checkpoint ends with the same bytes. The weights kept are those with the lowest perplexity on held-out sequences,
counted over true tokens. Several processes share each batch between them (`process_group`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from distilscope.distribution import Key
from distilscope.errors import DistilscopeError, StoppedError
from distilscope.lm.device import autocast, device, resolved_dtype
from distilscope.lm.network import Network, Trainable
from distilscope.lm.scoring import batches_of_like_length, log_prob
from distilscope.lm.sequences import Sequences
from distilscope.lm.training.batches import Batching, Epochs
from distilscope.lm.training.checkpoint_file import NAME
from distilscope.lm.training.config import Training
from distilscope.lm.training.objectives import Objective
from distilscope.lm.training.objectives.cross_entropy import token_loss
from distilscope.lm.training.process_group import ALONE, Group, gradient_in_one
from distilscope.lm.training.trainer_state import TrainerState
from distilscope.selectivity import UNCHANGED

Student = TypeVar("Student", bound=Trainable)


@dataclass(frozen=True)
class Trained(Generic[Student]):
    """The trained network and how it came about."""

    network: Student
    """With the weights of `chosen_step`."""
    history: list[dict[str, int | float]]
    """Per evaluation: step, mean training loss since the last one, held-out loss (nats per token)."""
    chosen_step: int
    """The step whose weights were kept: those of the lowest held-out loss."""
    tokens: int
    """Tokens trained on, repeats counted."""
    exact_resume: bool
    """Whether it ran, or went on after every interruption, in one number of processes: its weights are then those of
    any such training."""

    @property
    def held_out_loss(self) -> float:
        """Of the weights that were kept, in nats per token."""
        return chosen_loss(self.history, self.chosen_step)


def chosen_loss(history: Sequence[Mapping[str, int | float]], chosen_step: int) -> float:
    """The held-out loss of the checkpoint that was kept, in nats per token."""
    return next(float(entry["held_out_loss"]) for entry in history if entry["step"] == chosen_step)


def train(
    network: Student,
    training: Training,
    *,
    data: Sequences,
    validation: Sequences,
    key: Key,
    scratch: Path,
    resume_from: Path | None = None,
    objective: Objective = token_loss,
    teacher: Network | None = None,
    batching: Batching = Epochs,
    after_step: Callable[[int], object] | None = None,
    group: Group = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Trained[Student]:
    """Trains `network` in place on the batches that `batching` makes of `data`.

    Checkpoints live in the folder `scratch` and are resumed from there; where it holds none, from that in the folder
    `resume_from`, left by the same training in another number of processes. Every process of the `group` calls this
    with the same arguments; the first one writes. As soon as `stop_requested` says so in one of them, all save and end.
    Raises StoppedError then, and DistilscopeError where the loss becomes NaN or infinite; the last checkpoint stays in
    `scratch`.
    """
    network.to(device())
    batches = batching(data, training, key)
    steps = batches.steps
    evaluation_steps = training.evaluation_steps(len(data)) | {steps}
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )
    precision = getattr(torch, resolved_dtype(training.precision))
    scaler = _scaler(precision, batches.tokens_per_batch)
    state = TrainerState(scratch, network, optimizer, scaler, group=group, resume_from=resume_from)
    gradient = gradient_in_one(network) if group.size > 1 else None
    for step in range(state.step, steps):
        for settings in optimizer.param_groups:
            settings["lr"] = training.rate(step, steps)
        batch = batches.batch(step)
        share = group.share(batch)
        loss = _backward(network, share, training.microbatch_tokens, precision, scaler, objective, teacher)
        loss, stopping = group.totals(loss, float(stop_requested()))
        if gradient is not None:
            group.add_up(gradient)
        loss /= len(batch.ids)
        scaler.unscale_(optimizer)
        norm = _average_and_clip(network, len(batch.ids), training.clip)
        # float16 only: the gradient may be infinite because of its scale alone, which `update` then halves. At a scale
        # of 1 for the mean loss no smaller one is left to try.
        overflowed = scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() * len(batch.ids) > 1
        if not (math.isfinite(loss) and (math.isfinite(norm) or overflowed)):
            if _finite(network):
                state.save(network, optimizer, scaler)
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
        state.count(loss, len(batch.ids))
        if step + 1 in evaluation_steps:
            state.evaluated(network, held_out_loss(network, validation, group))
        if ((step + 1) % training.checkpoint_every == 0 or stopping) and step + 1 < steps and _finite(network):
            state.save(network, optimizer, scaler)
        if after_step is not None:
            after_step(step + 1)
        if stopping and step + 1 < steps:
            raise StoppedError(
                f"the training was told to end after step {step + 1} of {steps}; run again to go on from its checkpoint"
            )
    network.load_state_dict(state.best)
    return Trained(network, state.history, state.chosen_step, state.tokens, state.exact)


def _scaler(precision: torch.dtype, tokens: int) -> torch.amp.GradScaler:
    """For float16. It begins at torch's own scale, 2^16, divided by a batch's tokens: what is scaled here is the sum
    over them, where torch expects their mean."""
    return torch.amp.GradScaler(
        device().type, init_scale=2.0 ** (16 - tokens.bit_length()), enabled=precision == torch.float16
    )


def _backward(
    network: Trainable,
    batch: Sequences,
    most_tokens: int,
    precision: torch.dtype,
    scaler: torch.amp.GradScaler,
    objective: Objective = token_loss,
    teacher: Network | None = None,
) -> float:
    """Accumulates the (scaled) gradient of the batch's loss, summed over its tokens; returns that loss."""
    total = 0.0
    for rows in batches_of_like_length(batch.positions, most_tokens):
        part = batch.take(rows)
        with autocast(network.device, precision):
            loss = objective(network, part, teacher).sum()
        scaler.scale(loss).backward()
        total += float(loss.detach())
    return total


def _average_and_clip(network: Trainable, tokens: int, clip: float) -> float:
    """Turns the gradient of a sum over tokens into that of their mean, clipped to the norm `clip`; returns its norm
    before clipping."""
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients, foreach=True)) / tokens
    for gradient in gradients:
        gradient.mul_(min(1.0, clip / (norm + 1e-6)) / tokens)
    return norm


def _finite(network: Trainable) -> bool:
    """Whether all weights are finite. If not, no checkpoint is written over the last one: the next step's loss stops
    the training."""
    return all(bool(weight.isfinite().all()) for weight in network.parameters())


def held_out_loss(network: Trainable, sequences: Sequences, group: Group = ALONE) -> float:
    """Mean negative log-probability per true token (nats), in the weights' own precision; its exponential is the
    perplexity."""
    mine = list(batches_of_like_length(sequences.positions, 1024))[group.rank :: group.size]
    rows = np.sort(np.concatenate(mine)) if mine else np.zeros(0, dtype=np.int64)
    log_probs = log_prob((network.frozen(), UNCHANGED), sequences.take(rows))
    (total,) = group.totals(float(log_probs.sum(dtype=np.float64)))
    return -total / len(sequences.ids)
