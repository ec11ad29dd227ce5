"""Does precision fall and recall rise with the teacher's temperature? The verdict, for a study and for each variant of
the student."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from distilscope.evaluation.candidates import STUDYS_OWN, Variant
from distilscope.evaluation.frontier import ALPHA
from distilscope.evaluation.results import Student, SweepVariant, TradeOff


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
        return TradeOff(verdict="not shown", p_precision=None, p_recall=None, p_kl=None, reason=lacking)
    p_precision, p_recall, p_kl = (_rises(values[:, order]) for values in (-precision, recall, -kl))
    shown = p_precision <= ALPHA and p_recall <= ALPHA
    verdict = "not shown" if not shown else "sharpening only" if p_kl <= ALPHA else "holds"
    return TradeOff(verdict=verdict, p_precision=p_precision, p_recall=p_recall, p_kl=p_kl)


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


def by_variant(students: Sequence[Student]) -> dict[Variant, list[Student]]:
    """The students of each variant, the study's own first, then as they come."""
    groups: dict[Variant, list[Student]] = {STUDYS_OWN: []}
    for student in students:
        groups.setdefault(student.variant, []).append(student)
    return groups


def sweep(students: Sequence[Student], trade_off: Callable[[Sequence[Student]], TradeOff]) -> tuple[SweepVariant, ...]:
    """Each variant with its verdict over temperatures; empty where nothing was swept."""
    groups = by_variant(students)
    verdicts = (SweepVariant(variant=variant, trade_off=trade_off(group)) for variant, group in groups.items())
    return tuple(verdicts) if len(groups) > 1 else ()
