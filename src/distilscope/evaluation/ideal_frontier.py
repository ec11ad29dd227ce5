"""The ideal frontier: the most recall that any distribution can have at a given precision.

Maximising R + lambda P over q, lambda >= 0, gives q = p / (nu - lambda log p): p*'s own draws reweighted by
w = 1 / (nu - lambda log p), so that P = E_p[w log p] and R = E_p[log p + log w]. It needs p*'s log-probabilities alone.

nu is the root of E_p[w] = 1. With m the highest sampled log p, d = m - log p >= 0 and nu = lambda m + s, it reads E_p[1
/ (s + lambda d)] = 1 with s in (0, 1]; and written with a = lambda / s it solves itself: s = E_p[1 / (1 + a d)], w = 1
/ (s (1 + a d)), lambda = a s. As a rises from 0 so do lambda, P and the spread of w, while R falls; so the curve has
one variable and each question about it is one root.

The weights concentrate on ever fewer draws as a rises. Where fewer than 100 effective draws are left, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError

LEAST_EFFECTIVE = 100.0
"""Effective draws, (sum w)^2 / sum w^2, under which the curve is not trusted (Kish)."""


@dataclass(frozen=True)
class IdealPoint:
    """A point of the ideal frontier, in nats per draw, and how many draws of p* carry it."""

    precision: float
    recall: float
    effective_sample_size: float
    precision_weight: float
    """lambda: the recall that one more nat of precision costs here."""


@dataclass(frozen=True)
class EfficiencyGap:
    """Ideal recall at a student's precision minus the student's recall, in nats per draw, and what limits the
    student."""

    gap: float | None
    """None beyond the trusted curve."""
    ideal_recall: float | None
    limited_by: str | None
    """"fidelity" where P <= -H(p): p itself has that precision, and the gap is KL(p||q). Otherwise "selection"."""
    reason: str | None = None
    """Why there is no gap."""


def ideal_frontier(log_p: Float[np.ndarray, " n"], *, points: int = 40) -> list[IdealPoint]:
    """The curve by rising precision, evenly spaced, from q = p (which needs no weights and always stands) to where it
    is last trusted.

    log_p: p*'s log-probabilities of its own draws, nats per draw.
    """
    curve = _Curve(log_p)
    if curve.limit is None:
        return [curve.at(0.0)]
    last = curve.at(curve.limit)
    targets = np.linspace(curve.at(0.0).precision, last.precision, points)[1:-1]
    return [curve.at(0.0), *(curve.at(curve.solve(float(target))) for target in targets), last]


def ideal_recall(log_p: Float[np.ndarray, " n"], precision: float) -> IdealPoint | None:
    """The ideal point at this precision or, where p itself has more (P <= -H(p)), q = p; None beyond the trusted
    curve."""
    curve = _Curve(log_p)
    start = curve.at(0.0)
    if precision <= start.precision:
        return start
    if curve.limit is None or precision > curve.at(curve.limit).precision:
        return None
    return curve.at(curve.solve(precision))


def efficiency_gap(log_p: Float[np.ndarray, " n"], *, precision: float, recall: float) -> EfficiencyGap:
    """How far a student (P, R) is below the ideal frontier. Its R and `log_p` must come from the same draws of p*."""
    ideal = ideal_recall(log_p, precision)
    if ideal is None:
        return EfficiencyGap(
            None,
            None,
            None,
            f"precision {precision:.2f} lies where fewer than {LEAST_EFFECTIVE:.0f} of p*'s {len(log_p)} draws would "
            "carry the ideal;"
            " measure with more of them (--num-eval)",
        )
    limited_by = "fidelity" if ideal.precision_weight == 0 else "selection"
    return EfficiencyGap(ideal.recall - recall, ideal.recall, limited_by)


class _Curve:
    """The curve as a function of a = lambda / s, for one set of draws."""

    def __init__(self, log_p: Float[np.ndarray, " n"]) -> None:
        self.log_p = np.asarray(log_p, dtype=np.float64)
        if self.log_p.size == 0 or not np.isfinite(self.log_p).all():
            raise UsageError(
                "p*'s log-probabilities of its own draws are empty or not finite, but the ideal needs them; draw again"
            )
        self.below = self.log_p.max() - self.log_p
        self.scale = 1 / self.below.mean() if self.below.any() else 0.0
        self.limit = self._limit()

    def at(self, a: float) -> IdealPoint:
        tilt = 1 / (1 + a * self.below)
        s = tilt.mean()
        weights = tilt / s
        return IdealPoint(
            precision=float((weights * self.log_p).mean()),
            recall=float(self.log_p.mean() + np.log(tilt).mean() - math.log(s)),
            effective_sample_size=float(self.log_p.size / (weights**2).mean()),
            precision_weight=float(a * s),
        )

    def solve(self, precision: float) -> float:
        """The a at which P reaches `precision`, which lies on the trusted curve."""
        assert self.limit is not None
        return self._root(lambda a: self.at(a).precision - precision, self.limit)

    def _limit(self) -> float | None:
        """The last trusted a: where 100 effective draws are left, or practically infinity where so many tie for the
        highest log p."""
        if not self.scale or self.log_p.size <= LEAST_EFFECTIVE:
            return None
        last = 1e12 * self.scale
        return last if self._spare(last) >= 0 else self._root(self._spare, last)

    def _spare(self, a: float) -> float:
        return self.at(a).effective_sample_size - LEAST_EFFECTIVE

    def _root(self, function: Callable[[float], float], last: float) -> float:
        """Where a monotone function of a changes sign, sought on log a; the nearer end where it does not."""
        from scipy.optimize import brentq

        first = 1e-9 * self.scale
        low, high = function(first), function(last)
        if low * high >= 0:
            return first if abs(low) <= abs(high) else last
        root: Any = brentq(lambda log_a: function(math.exp(log_a)), math.log(first), math.log(last), xtol=1e-13)
        return math.exp(root)
