"""Does the trade-off hold? The verdict over training temperatures, with seeds as blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ALPHA = 0.05


@dataclass(frozen=True)
class TradeOff:
    """Intersection-union test: precision falls *and* recall rises with training temperature, each at alpha = 0.05.

    The p-values are those of Page's trend test (one-sided); None where it cannot be made.
    """

    verdict: str
    p_precision: float | None
    p_recall: float | None
    p_kl: float | None
    """For KL(q||p) rising as temperature falls: sharpening that costs fidelity."""


def trade_off(
    *,
    temperatures: tuple[float, ...],
    precision: Float[np.ndarray, "seeds temperatures"],
    recall: Float[np.ndarray, "seeds temperatures"],
    kl: Float[np.ndarray, "seeds temperatures"],
) -> TradeOff:
    """The verdict: "holds", "sharpening only" (both pass, and KL(q||p) also rises as temperature falls) or "not shown".

    It needs at least 2 seeds, 3 temperatures and finite values; otherwise "not shown", with the p-values None.
    """
    order = np.argsort(temperatures)
    if len(precision) < 2 or len(order) < 3 or not all(np.isfinite(values).all() for values in (precision, recall, kl)):
        return TradeOff("not shown", None, None, None)
    p_precision, p_recall, p_kl = (_rises(values[:, order]) for values in (-precision, recall, -kl))
    shown = p_precision <= ALPHA and p_recall <= ALPHA
    verdict = "not shown" if not shown else "sharpening only" if p_kl <= ALPHA else "holds"
    return TradeOff(verdict, p_precision, p_recall, p_kl)


def _rises(values: Float[np.ndarray, "blocks treatments"]) -> float:
    """p-value of Page's test that the columns are ordered upwards."""
    from scipy.stats import page_trend_test

    p = float(page_trend_test(values).pvalue)
    return p if math.isfinite(p) else 1.0
