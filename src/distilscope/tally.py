"""One side's draws, scored and gated tile by tile: numbers per sequence are kept, tokens are let go."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from distilscope.comparison import Scored
from distilscope.gates import Gates
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
        self._controlled = True

    def add(self, draws: Sequences, own: OwnScores, other: TokenScores | Float[np.ndarray, " n"] | None) -> None:
        """A tile. `other` is the other side's scores, or its log-probabilities alone (nats per sequence), or None where there is none.

        Raises GateError where scoring the draws again does not give back what was recorded.
        """
        assert draws.log_prob is not None
        self._gates.admit(draws.log_prob, rescored=own.log_prob, expected=own.expected, variance=own.variance)
        nothing = np.full(len(draws), np.nan)
        if isinstance(other, TokenScores):
            others = other.totals(draws)
        else:
            others, self._controlled = (nothing if other is None else other, nothing), False
        self._totals.append(np.stack([*own.totals(draws), *others]))
        self._lengths.append(draws.lengths)
        self._ended.append(draws.ended)
        self._prompt_of.append(draws.prompt_of)

    def z(self) -> float | str:
        """Of all draws so far, or "undecided"; GateError beyond the limit."""
        return self._gates.z()

    def scored(self) -> Scored:
        own, own_deviation, other, other_deviation = np.concatenate(self._totals, axis=1)
        clusters = np.concatenate(self._prompt_of) if self._clustered else None
        return Scored(own, other, own_deviation, other_deviation if self._controlled else None, clusters)

    def alone(self) -> Scored:
        """This side without another: its entropy is all that it can say."""
        own, own_deviation, *_ = np.concatenate(self._totals, axis=1)
        return Scored(own, own, own_deviation, None, np.concatenate(self._prompt_of) if self._clustered else None)

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens, a stopping token counted."""
        return np.concatenate(self._lengths)

    @property
    def ended(self) -> Bool[np.ndarray, " n"]:
        return np.concatenate(self._ended)
