"""One side's draws, scored and gated tile by tile: numbers per sequence are kept, tokens are let go."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from distilscope.evaluation.gates import Gates
from distilscope.evaluation.precision_recall import Scored
from distilscope.lm.scoring import OwnScores, TokenScores
from distilscope.lm.sequences import Sequences


class Tally:
    """What a comparison needs of one side. Memory grows by about 50 bytes per sequence."""

    def __init__(self, *, dtype: str, whose: str, clustered: bool) -> None:
        """`clustered`: whether draws after one prompt count as dependent."""
        self._gates, self._clustered = Gates(dtype=dtype, whose=whose), clustered
        self._totals: list[Float[np.ndarray, "4 n"]] = []
        self._lengths: list[Int[np.ndarray, " n"]] = []
        self._ended: list[Bool[np.ndarray, " n"]] = []
        self._prompt_of: list[Int[np.ndarray, " n"]] = []

    def add(
        self, draws: Sequences, own: OwnScores, other: TokenScores | Float[np.ndarray, " n"] | None
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """A tile; gives each draw's log-probability (nats) under this side and under the other.

        `other` is the other side's scores, or its log-probabilities alone (nats per sequence), or None where there is
        none. Raises GateError where scoring the draws again does not give back what was recorded.
        """
        assert draws.log_prob is not None
        self._gates.admit(draws.log_prob, rescored=own.log_prob, expected=own.expected, variance=own.variance)
        nothing = np.full(len(draws), np.nan)
        others = (
            other.totals(draws) if isinstance(other, TokenScores) else (nothing if other is None else other, nothing)
        )
        totals = np.stack([*own.totals(draws), *others])
        self._totals.append(totals)
        self._lengths.append(draws.lengths)
        self._ended.append(draws.ended)
        self._prompt_of.append(draws.prompt_of)
        return totals[0], totals[2]

    def z(self) -> float | str:
        """Of all draws so far, or "undecided"; GateError beyond the limit."""
        return self._gates.z()

    def scored(self) -> Scored:
        """A deviation that could not be had is NaN, and then no control (see `control_variates.Mean`)."""
        own, own_deviation, other, other_deviation = np.concatenate(self._totals, axis=1)
        return Scored(own, other, own_deviation, other_deviation, self._clusters)

    def alone(self) -> Scored:
        """This side without another: its entropy is all that it can say."""
        own, own_deviation, *_ = np.concatenate(self._totals, axis=1)
        return Scored(own, own, own_deviation, clusters=self._clusters)

    @property
    def _clusters(self) -> Int[np.ndarray, " n"] | None:
        return np.concatenate(self._prompt_of) if self._clustered else None

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens, a stopping token counted."""
        return np.concatenate(self._lengths)

    @property
    def ended(self) -> Bool[np.ndarray, " n"]:
        return np.concatenate(self._ended)
