"""The draws of one side that the other finds most surprising: what a pair of numbers cannot show."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.lm.sequences import Sequences

KEPT = 20


class Surprises:
    """Keeps the draws with the largest log own(x) - log other(x), tile by tile."""

    def __init__(self, prompts: tuple[str, ...]) -> None:
        self._prompts = prompts
        self._heap: list[tuple[float, int, dict[str, Any]]] = []
        self._seen = 0

    def offer(
        self, draws: Sequences, texts: list[str], own: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]
    ) -> None:
        """A tile, with each draw's text and log-probabilities (nats)."""
        surprise = own - other  # infinite where the other side cannot make it
        for i in np.argsort(-surprise, kind="stable")[:KEPT].tolist():
            record = {
                "text": texts[i],
                "prompt": self._prompts[int(draws.prompt_of[i])],
                "length": int(draws.lengths[i]),
                "ended": bool(draws.ended[i]),
                "log_prob_own": float(own[i]),
                "log_prob_other": float(other[i]) if np.isfinite(other[i]) else None,
            }
            entry = (float(surprise[i]), -(self._seen + i), record)
            if len(self._heap) < KEPT:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)
        self._seen += len(draws)

    def as_json(self) -> list[dict[str, Any]]:
        """Most surprising first; `log_prob_other` is null where the other side cannot make the draw at all."""
        return [record for _, _, record in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
