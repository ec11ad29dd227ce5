"""How a model is trained: sizes, learning rate, schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from distilscope.errors import UsageError
from distilscope.lm.dtypes import require_dtype


@dataclass(frozen=True)
class Training:
    """How a model is trained. The schedule is warm-up, stable, decay (WSD; Hu et al. 2404.06395)."""

    epochs: int = 4
    """Passes over the training set; 0 leaves a pretrained model as it is."""
    batch_sequences: int = 64
    """Sequences per optimiser step, whatever the number of processes or microbatches."""
    learning_rate: float = 5e-4
    """AdamW's learning rate after warm-up and before decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the whole gradient; a longer one is scaled down to it."""
    warmup_fraction: float = 0.01
    """Share of the steps in which the learning rate rises linearly from zero."""
    decay_fraction: float = 0.2
    """Share of the steps, at the end, in which it falls linearly towards zero."""
    precision: str = "auto"
    """Number format of the products in training: auto, float32, bfloat16 or float16.

    bfloat16 and float16 are mixed precision: weights and optimiser stay in float32; in float16 the loss is scaled, so
    that small gradients are not lost. auto is what the hardware multiplies fast.
    """
    microbatch_tokens: int = 8192
    """Most tokens whose activations and logits are in memory at once."""
    evaluations: int = 4
    """Checkpoints compared on held-out sequences: evenly spaced, the last step's among them."""
    checkpoint_every: int = 200
    """Steps between the checkpoints that a killed training resumes from."""
    processes: int = 1
    """Processes that share each batch: one GPU each, or one core each where there is none."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_sequences", "microbatch_tokens", "evaluations", "checkpoint_every", "processes"):
            if getattr(self, name) < (least := int(name != "epochs")):
                raise UsageError(f"training.{name} is {getattr(self, name)}, but must be at least {least}")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(
                f"training.learning_rate is {self.learning_rate}, but must be a finite number above 0, such as 0.0005"
            )
        if not 0 < self.clip < math.inf:
            raise UsageError(f"training.clip is {self.clip}, but must be a finite number above 0, such as 1.0")
        if not all(0 <= beta < 1 for beta in self.betas) or not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                "training.betas must be at least 0 and below 1, and training.weight_decay a finite number of at least 0"
            )
        if not (
            self.warmup_fraction >= 0 and self.decay_fraction >= 0 and self.warmup_fraction + self.decay_fraction <= 1
        ):
            raise UsageError(
                "training.warmup_fraction and training.decay_fraction must be at least 0 and add up to at most 1"
            )
        require_dtype(self.precision, "training.precision")

    def steps(self, sequences: int) -> int:
        return self.epochs * math.ceil(sequences / self.batch_sequences)

    def evaluation_steps(self, sequences: int) -> frozenset[int]:
        """After which steps held-out sequences are looked at; the last step is one of them."""
        steps = self.steps(sequences)
        return frozenset(math.ceil(steps * (i + 1) / self.evaluations) for i in range(self.evaluations))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0...steps-1: linear warm-up, constant, linear decay towards zero."""
        warmup, decay = math.ceil(self.warmup_fraction * steps), math.ceil(self.decay_fraction * steps)
        return self.learning_rate * min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1, decay))
