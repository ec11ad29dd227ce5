"""Scores sequences under a network: each token's log-probability, and what the sampler check needs.

Logits over the whole vocabulary exist for a few hundred positions at a time, never for the whole batch.
Sequences of like length run together, so that attention pads little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.gates import check_draws
from distilscope.lm.network import Network
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import Selectivity

BATCH_TOKENS = 4096
"""Most tokens run through the network at once."""


@dataclass(frozen=True)
class TokenScores:
    """Per token, in the order of the sequences' ids, in nats."""

    log_prob: Float[np.ndarray, " tokens"]
    expected: Float[np.ndarray, " tokens"]
    """E_v log q(v), v ~ q(.|x_<t): minus the entropy of the next-token distribution."""
    variance: Float[np.ndarray, " tokens"]
    """Var_v log q(v), v ~ q(.|x_<t), in nats^2."""

    def check(self, draws: Sequences, *, dtype: str, whose: str) -> float | str:
        """Both gates of the draws that these are the scores of, under what drew them: z or "undecided", or GateError."""
        assert draws.log_prob is not None
        return check_draws(draws.log_prob, rescored=self.log_prob, expected=self.expected, variance=self.variance, dtype=dtype, whose=whose)


@torch.inference_mode()
def score(network: Network, sequences: Sequences, selectivities: tuple[Selectivity, ...]) -> tuple[TokenScores, ...]:
    """Scores the same sequences under the network at each selectivity; one forward pass serves them all."""
    tokens = len(sequences.ids)
    scores = tuple(TokenScores(*(np.zeros(tokens, dtype=np.float32) for _ in range(3))) for _ in selectivities)
    offsets = sequences.offsets
    for rows in batches_of_like_length(sequences.lengths, len(sequences.prompt) - 1, BATCH_TOKENS):
        batch = sequences.take(rows)
        places = np.concatenate([np.arange(*offsets[row : row + 2].tolist()) for row in rows])
        done = 0
        for logits in network.logits(batch):
            piece = places[done : done + len(logits)]
            targets = torch.from_numpy(sequences.ids[piece].astype(np.int64))
            for selectivity, result in zip(selectivities, scores, strict=True):
                result.log_prob[piece], result.expected[piece], result.variance[piece] = _moments(selectivity(logits), targets)
            done += len(logits)
    return scores


def _moments(logits: Float[Tensor, "m v"], targets: Int[Tensor, " m"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log q(target), E[log q] and Var[log q], with 0 log 0 = 0 for tokens outside the support."""
    log_q = logits.log_softmax(-1)
    q = log_q.exp()
    expected = -torch.special.entr(q).sum(-1)
    variance = (q * torch.where(q > 0, log_q - expected[:, None], 0.0).square()).sum(-1)
    return log_q.gather(-1, targets[:, None])[:, 0].numpy(), expected.numpy(), variance.numpy()


def batches_of_like_length(lengths: Int[np.ndarray, " n"], context: int, most_tokens: int) -> Iterator[Int[np.ndarray, " m"]]:
    """Rows sorted by length (stable), cut where a batch padded to its longest would exceed `most_tokens`."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, most_tokens // int(lengths[order[start]] + context))
        yield order[start : start + rows]
        start += rows
