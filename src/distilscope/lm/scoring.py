"""Scores draws in one pass: under the model that drew them and under others.

Each side gives every token's log-probability and its expectation under what drew the draws, v ~ q(.|x_<t). The
difference of the two is a martingale difference: its sum over a sequence has mean zero, whichever side it is of. The
sampler check (`evaluation.gates`) and the control variates (`evaluation.control_variates`) are made of these.

Logits over the whole vocabulary exist for a few hundred positions at a time, never for the whole batch.
Sequences of about the same length run together, so that attention pads little, and equal prefixes are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.evaluation.gates import check_draws
from distilscope.lm.device import send
from distilscope.lm.kernels.log_prob_moments import Moments, log_prob_at
from distilscope.lm.network import Network, in_pieces, over_threads, threads_for
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import Selectivity
from distilscope.system.thread_pool import raise_if_abandoned

BATCH_TOKENS = 4096
"""Most tokens run through the network at once; fewer where several threads compute, so that they end together."""

BATCHES_PER_THREAD = 2
"""At least, where there are several threads: one with a long batch then takes a short one, and all end together."""

LEAST_BATCH_TOKENS = 512
"""A batch is not made smaller than this for the threads' sake: its matrix products would be slower."""

Model = tuple[Network, Selectivity]
"""A network and the selectivity of its next-token choices."""

Places = Int[np.ndarray, " m"]
Targets = Int[Tensor, " m"]
Logits = Iterator[tuple[Network, Float[Tensor, "m v"]]]
"""Each network with its logits, computed when asked for: of many networks only two at a time have logits in memory."""


@dataclass(frozen=True)
class TokenScores:
    """Per token, in the order of the sequences' ids, in nats."""

    log_prob: Float[np.ndarray, " tokens"]
    expected: Float[np.ndarray, " tokens"]
    """E_v log-probability of v, v ~ q(.|x_<t), q being the model that drew; -inf where q can draw what this side
    cannot."""

    def totals(self, draws: Sequences) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Per sequence: log-probability, and its deviation from the sum of its step-by-step expectations (NaN where not
        finite)."""
        return _totals(draws, self.log_prob, self.expected)


@dataclass(frozen=True)
class OwnScores(TokenScores):
    """The scores of draws under what drew them."""

    variance: Float[np.ndarray, " tokens"]
    """Var_v log q(v), v ~ q(.|x_<t), in nats^2."""

    def totals(self, draws: Sequences) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """As for any side, with the log-probabilities as they were recorded while drawing."""
        assert draws.log_prob is not None
        return _totals(draws, draws.log_prob, self.expected)

    def check(self, draws: Sequences, *, dtype: str, whose: str) -> float | str:
        """Both gates: z or "undecided", or GateError."""
        assert draws.log_prob is not None
        return check_draws(
            draws.log_prob,
            rescored=self.log_prob,
            expected=self.expected,
            variance=self.variance,
            dtype=dtype,
            whose=whose,
        )


def score(own: Model, draws: Sequences, others: Sequence[Model] = ()) -> tuple[OwnScores, tuple[TokenScores, ...]]:
    """Scores draws of `own` under itself and under each of `others`; a network that is in several of them runs once.

    Every network is over the same token ids (ValueError otherwise).
    """
    if len({network.vocabulary for network, _ in (own, *others)}) != 1:
        raise ValueError(
            "these networks have different vocabularies, so their log-probabilities are not of the same things"
        )
    tokens = len(draws.ids)
    mine = OwnScores(*_empty(tokens, 3))
    theirs = tuple(TokenScores(*_empty(tokens, 2)) for _ in others)
    sides = _by_network(others, theirs)

    def take(places: Places, targets: Targets, logits: Logits) -> None:
        first = next(logits)
        moments = Moments(own[1](first[1]), targets)
        mine.log_prob[places], mine.expected[places], mine.variance[places] = moments.own()
        for network, found in chain([first], logits):
            for selectivity, result in sides.get(network, ()):
                result.log_prob[places], result.expected[places] = moments.of_other(selectivity(found))

    _for_each_piece((own[0], *sides), draws, take)
    return mine, theirs


def score_data(data: Sequences, others: Sequence[Model]) -> tuple[TokenScores, ...]:
    """Scores data that no model here drew. There is no q to take expectations under, so these are NaN."""
    theirs = tuple(
        TokenScores(_empty(len(data.ids), 1)[0], np.full(len(data.ids), np.nan, dtype=np.float32)) for _ in others
    )
    sides = _by_network(others, theirs)

    def take(places: Places, targets: Targets, logits: Logits) -> None:
        for network, found in logits:
            for selectivity, result in sides[network]:
                result.log_prob[places] = log_prob_at(selectivity(found), targets)

    _for_each_piece(tuple(sides), data, take)
    return theirs


def log_prob(model: Model, sequences: Sequences) -> Float[np.ndarray, " tokens"]:
    """Each token's log-probability (nats) and nothing else; the sequences may come from anywhere."""
    return score_data(sequences, [model])[0].log_prob


def _by_network(
    models: Sequence[Model], results: Sequence[TokenScores]
) -> dict[Network, list[tuple[Selectivity, TokenScores]]]:
    """For each network the selectivities that it is scored at, with the arrays that take the results."""
    sides: dict[Network, list[tuple[Selectivity, TokenScores]]] = {}
    for (network, selectivity), result in zip(models, results, strict=True):
        sides.setdefault(network, []).append((selectivity, result))
    return sides


def _for_each_piece(
    networks: Sequence[Network], sequences: Sequences, take: Callable[[Places, Targets, Logits], None]
) -> None:
    """Calls `take` for pieces of the sequences' tokens, from several threads: with their places, ids, and each
    network's logits there."""
    offsets, distinct = sequences.offsets, list(dict.fromkeys(networks))

    @torch.inference_mode()
    def run(rows: Int[np.ndarray, " n"]) -> None:
        batch = sequences.take(rows)
        places = np.concatenate([np.arange(*offsets[row : row + 2].tolist()) for row in rows])
        done = 0
        first, *rest = (chain.from_iterable(map(in_pieces, network.logits(batch))) for network in distinct)
        for held in first:
            raise_if_abandoned()
            piece = places[done : done + len(held)]
            done += len(held)
            logits = zip(distinct, chain([held], map(next, rest)), strict=True)
            take(piece, send(sequences.ids[piece].astype(np.int64), held.device), logits)

    threads = threads_for(distinct)
    share = BATCH_TOKENS if threads == 1 else -(-int(sequences.positions.sum()) // (BATCHES_PER_THREAD * threads))
    ids = [row.tobytes() for row in sequences]
    # sequences with a common beginning next to each other, so that a batch computes it once
    by_prefix = sorted(range(len(sequences)), key=lambda row: (sequences.prompt_of[row], ids[row]))
    together = np.array(by_prefix, dtype=np.int64)
    lengths, most = sequences.positions[together], min(BATCH_TOKENS, max(LEAST_BATCH_TOKENS, share))
    batches = [together[rows] for rows in batches_of_like_length(lengths, most)]
    for _ in over_threads(distinct, run, batches, len(batches)):
        pass


def _totals(
    draws: Sequences, log_prob: Float[np.ndarray, " tokens"], expected: Float[np.ndarray, " tokens"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    with np.errstate(invalid="ignore"):  # -inf less -inf
        return draws.sum_per_sequence(log_prob), draws.sum_per_sequence(log_prob.astype(np.float64) - expected)


def _empty(tokens: int, number: int) -> tuple[Float[np.ndarray, " tokens"], ...]:
    return tuple(np.zeros(tokens, dtype=np.float32) for _ in range(number))


def batches_of_like_length(lengths: Int[np.ndarray, " n"], most_tokens: int) -> Iterator[Int[np.ndarray, " m"]]:
    """Rows sorted by length (stable), cut where a batch padded to its longest would exceed `most_tokens`."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, most_tokens // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
