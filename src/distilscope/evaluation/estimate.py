"""A number with its uncertainty. Nothing here knows what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from distilscope.evaluation.documents import Number


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mean over `n` draws and its standard error.

    `mean` and `stderr` are None where `infinite` of the draws are infinite (the expectation is then infinite, and
    averaging the rest would hide it); `stderr` is None where n = 1. An exact value, from quadrature or enumeration, has
    stderr 0 and n 0. What cannot be measured has neither mean nor draws.
    """

    mean: Number | None
    stderr: Number | None
    n: int
    infinite: int = 0
    infinite_at: tuple[int, ...] = ()
    """Indices of the infinite draws (at most the first 10)."""
    not_available: bool = False

    def unwritten(self) -> tuple[str, ...]:
        """Fields that documents do not hold."""
        return ("infinite_at",)

    @classmethod
    def of(cls, values: Any) -> Estimate:
        """From one value per draw: any array-like of shape (n,), n >= 1; NaN raises ValueError."""
        array = np.asarray(values, dtype=np.float64).reshape(-1)
        if array.size == 0:
            raise ValueError("an estimate needs at least one value; got none")
        if np.isnan(array).any():
            raise ValueError(f"value {int(np.isnan(array).argmax())} is not a number")
        infinite = np.flatnonzero(np.isinf(array))
        if infinite.size:
            at = tuple(map(int, infinite[:10]))
            return cls(None, None, int(array.size), infinite=int(infinite.size), infinite_at=at)
        stderr = float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else None
        return cls(float(array.mean()), stderr, int(array.size))

    def scaled(self, by: float) -> Estimate:
        """In another unit: mean and standard error divided by a constant."""
        return msgspec.structs.replace(
            self,
            mean=None if self.mean is None else self.mean / by,
            stderr=None if self.stderr is None else self.stderr / by,
        )

    @classmethod
    def exact(cls, value: float) -> Estimate:
        if math.isnan(value):
            raise ValueError("the value is not a number")
        if math.isinf(value):
            return cls(None, None, 0, infinite=1)
        return cls(float(value), 0.0, 0)

    def __str__(self) -> str:
        if self.not_available:
            return "not available"
        if self.mean is None:
            return f"infinite ({self.infinite} of {self.n})"
        return f"{self.mean:.2f}" if not self.stderr else f"{self.mean:.2f} ± {self.stderr:.2f}"


NOT_AVAILABLE = Estimate(None, None, 0, not_available=True)
"""What cannot be measured, such as a probability under data."""


class Interval(msgspec.Struct, frozen=True):
    """A mean over seeds with the half-width of its t-interval (None for a single seed)."""

    mean: Number
    half_width: Number | None
    n: int

    @property
    def low(self) -> float:
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half_width or 0.0)

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.half_width is None else f"{self.mean:.2f} ± {self.half_width:.2f}"


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student's t-interval for the mean of independent values, one per seed (df = n - 1)."""
    from scipy import stats

    n = len(values)
    if n < 2:
        return Interval(float(values[0]), None, n)
    spread = float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(float(np.mean(values)), float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * spread, n)
