"""Does precision fall and recall rise with the teacher's temperature? The verdict, for a study and for each variant of
the student."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.evaluation.frontier import ALPHA


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
    reason: str | None = None
    """Why the test cannot be made."""


def trade_off(
    *,
    temperatures: tuple[float, ...],
    precision: Float[np.ndarray, "seeds temperatures"],
    recall: Float[np.ndarray, "seeds temperatures"],
    kl: Float[np.ndarray, "seeds temperatures"],
) -> TradeOff:
    """The verdict: "holds", "sharpening only" (both pass, and KL(q||p) also rises as temperature falls) or "not shown".

    It needs at least 2 seeds, 3 temperatures and finite values; otherwise "not shown", with the p-values None and a
    reason.
    """
    order = np.argsort(temperatures)
    if lacking := _lacking(temperatures, {"precision": precision, "recall": recall, "KL(q||p)": kl}):
        return TradeOff("not shown", None, None, None, lacking)
    p_precision, p_recall, p_kl = (_rises(values[:, order]) for values in (-precision, recall, -kl))
    shown = p_precision <= ALPHA and p_recall <= ALPHA
    verdict = "not shown" if not shown else "sharpening only" if p_kl <= ALPHA else "holds"
    return TradeOff(verdict, p_precision, p_recall, p_kl)


def _lacking(
    temperatures: tuple[float, ...], tables: Mapping[str, Float[np.ndarray, "seeds temperatures"]]
) -> str | None:
    seeds = len(tables["precision"])
    if seeds < 2:
        return f"there is {seeds} seed, but a trend test over seeds needs at least 2; run with --seeds 2 or more"
    if len(temperatures) < 3:
        return f"there are {len(temperatures)} temperatures, but a trend needs at least 3; add some with --temperatures"
    for name, values in tables.items():
        if not np.isfinite(values).all():
            column = int((~np.isfinite(values)).any(axis=0).argmax())
            return (
                f"{name} at temperature {temperatures[column]:g} is not finite, but a trend test needs every "
                "value; leave that one out"
            )
    return None


def _rises(values: Float[np.ndarray, "blocks treatments"]) -> float:
    """p-value of Page's test that the columns are ordered upwards."""
    from scipy.stats import page_trend_test

    p = float(page_trend_test(values).pvalue)
    return p if math.isfinite(p) else 1.0


Student = Mapping[str, Any]


def by_variant(students: Iterable[Student]) -> list[tuple[dict[str, int], list[Student]]]:
    """The students of each variant, the study's own ({}) first, then as they come."""
    groups: dict[str, list[Student]] = {"{}": []}
    for student in students:
        groups.setdefault(json.dumps(student["variant"]), []).append(student)
    return [(json.loads(variant), group) for variant, group in groups.items()]


def sweep_document(
    students: Iterable[Student], trade_off: Callable[[list[Student]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each variant with its verdict over temperatures; empty where nothing was swept."""
    groups = by_variant(students)
    return [{"variant": variant, "trade_off": trade_off(group)} for variant, group in groups] if len(groups) > 1 else []
