"""Cross entropy: each generated token's negative log-probability under the student."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distilscope.lm.device import send
from distilscope.lm.kernels.fused_cross_entropy import negative_log_prob
from distilscope.lm.network import Network, Trainable
from distilscope.lm.sequences import Sequences


def token_loss(
    student: Trainable,
    batch: Sequences,
    teacher: Network | None = None,  # noqa: ARG001
) -> Float[Tensor, " tokens"]:
    """Each generated token's negative log-probability, in nats; no teacher is needed."""
    return negative_log_prob(student.training_logits(batch), send(batch.ids.astype(np.int64), student.device))
