"""Numbers as tables, pages and sentences show them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distilscope.evaluation.estimate import Estimate, Interval, t_interval


def true_minus(text: str) -> str:
    """With minus signs in place of the hyphens before digits."""
    return re.sub(r"-(?=\d)", "−", text)


def plus_minus(mean: float, half: float | None, places: int = 2, *, grouped: bool = False, space: str = " ") -> str:
    """`mean ± half`, or the mean alone where there is no half-width; `grouped` puts commas between thousands."""
    comma = "," if grouped else ""
    return f"{mean:{comma}.{places}f}" + ("" if half is None else f"{space}±{space}{half:{comma}.{places}f}")


def of_interval(
    interval: Interval | None, places: int = 2, *, grouped: bool = False, space: str = " ", missing: str = "–"
) -> str:
    """Mean ± half-width with true minus signs; `missing` where there is none."""
    if interval is None:
        return missing
    return true_minus(plus_minus(interval.mean, interval.half_width, places, grouped=grouped, space=space))


def over_seeds(estimates: Sequence[Estimate]) -> str:
    """Mean ± 95% t-interval of one quantity, an estimate per seed; or how many seeds have an infinite one."""
    if any(estimate.not_available for estimate in estimates):
        return "not available"
    finite = [estimate.mean for estimate in estimates if estimate.mean is not None]
    if len(finite) < len(estimates):
        return f"infinite in {len(estimates) - len(finite)} of {len(estimates)}"
    return str(t_interval(finite))
