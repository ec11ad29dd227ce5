"""Cross entropy: each generated token's negative log-probability under the student."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distilscope.lm.device import send
from distilscope.lm.kernels.fused_cross_entropy import negative_log_prob
from distilscope.lm.models.llama import Llama
from distilscope.lm.sequences import Sequences


def token_loss(network: Llama, batch: Sequences) -> Float[Tensor, " tokens"]:
    """Each generated token's negative log-probability, in nats."""
    return negative_log_prob(
        network.rounded_scores(network.predicting(batch)), send(batch.ids.astype(np.int64), network.device)
    )
