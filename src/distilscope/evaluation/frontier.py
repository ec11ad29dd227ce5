"""Does the trade-off hold, does distillation earn its keep, and how far is it from the ideal? Answers over a whole
sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from distilscope.evaluation.by_seed import Grid
from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.estimate import Interval, t_interval
from distilscope.evaluation.ideal_frontier import EfficiencyGap, efficiency_gap, ideal_frontier
from distilscope.evaluation.results import Control, ControlComparison, Frontier, IdealRecall, SettingGap, Student

ALPHA = 0.05


@dataclass(frozen=True)
class FrontierComparison:
    """Precision of one frontier minus that of another at matched recall, in nats per draw, with t-intervals over
    seeds."""

    difference: Interval | None
    """Averaged over the recalls at which both frontiers of every seed can be read (each is the most precision at that
    recall or more); None where there are none."""
    overlap: tuple[float, float] | None
    """Those recalls, from lowest to highest."""
    seeds: int
    at: tuple[tuple[float, Interval | None], ...] = ()
    """At each recall asked for: the difference there, None outside the overlap."""
    reason: str | None = None
    """Why there is no difference, or no interval."""

    def verdict(self) -> int:
        """1 where the first frontier is shown to be higher, -1 where the second is, 0 where neither is."""
        found = self.difference
        if found is None or found.half_width is None or abs(found.mean) <= found.half_width:
            return 0
        return 1 if found.mean > 0 else -1


def compare_frontiers(
    *,
    first: Float[np.ndarray, "seeds first_settings 2"],
    second: Float[np.ndarray, "seeds second_settings 2"],
    recalls: tuple[float, ...] = (),
) -> FrontierComparison:
    """Paired by seed. The last axis holds (P, R); points that are not finite are left out.

    A seed's frontier is the most precision among its points of at least that recall, joined by lines: sorted by recall,
    P is made non-increasing from the right, so that a dominated point does not bend it. Both frontiers are read at the
    same recalls: those that both reach or, where one has more recall throughout, those of the other (see
    `_common_recalls`).
    """
    seeds = len(first)
    if seeds == 0:
        return FrontierComparison(
            None, None, 0, reason="no seed has students on both frontiers; run the study with --seeds 2 or more"
        )
    curves = [(_frontier(one), _frontier(other)) for one, other in zip(first, second, strict=True)]
    reach = _common_recalls(curves)
    if reach is None:
        return _incomparable(seeds, recalls, "no recall is reached by both frontiers for every seed")
    low, high, above = reach
    knots = np.unique(
        np.clip(np.concatenate([[low, high], *(recall for pair in curves for recall, _ in pair)]), low, high)
    )

    def differences(at: Float[np.ndarray, " m"]) -> Float[np.ndarray, "seeds m"]:
        return np.array([np.interp(at, *one) - np.interp(at, *other) for one, other in curves])

    gaps = differences(knots)
    averages = np.trapezoid(gaps, knots, axis=1) / (high - low) if high > low else gaps[:, 0]
    if above * averages.mean() < 0:
        return _incomparable(
            seeds, recalls, "one frontier lies at higher recall throughout and has less precision there"
        )
    stated = tuple(
        (at, t_interval(list(differences(np.array([at]))[:, 0])) if low <= at <= high else None) for at in recalls
    )
    reason = (
        None
        if seeds > 1
        else "there is 1 seed, but an interval over seeds needs at least 2; run with --seeds 2 or more"
    )
    return FrontierComparison(t_interval(list(averages)), (float(low), float(high)), seeds, stated, reason)


Curve = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]
"""Recalls, rising, and the precision at each, non-increasing; at lower recalls the precision stays that of the first.
"""


def _common_recalls(curves: list[tuple[Curve, Curve]]) -> tuple[float, float, int] | None:
    """The recalls at which every seed's two frontiers can be read, and which of them lies above all of it (1, -1; 0:
    neither).

    A frontier is the most precision at a recall or more, so one that lies above in recall can be read at all recalls of
    the other. That is in its disfavour, since it might be sharpened down to them; so the comparison stands only where
    it favours that one all the same.
    """
    if any(not len(recall) for pair in curves for recall, _ in pair):
        return None
    lows, highs = ([[curve[0][end] for curve in pair] for pair in curves] for end in (0, -1))
    low, high = np.max(lows, axis=0), np.min(highs, axis=0)
    if low.max() <= high.min():
        return float(low.max()), float(high.min()), 0
    above = 0 if np.max(lows, axis=0)[0] > np.min(highs, axis=0)[1] else 1
    return (
        (float(low[1 - above]), float(high[1 - above]), 1 if above == 0 else -1)
        if low[1 - above] <= high[1 - above]
        else None
    )


def _incomparable(seeds: int, recalls: tuple[float, ...], why: str) -> FrontierComparison:
    reason = (
        f"no overlap: {why}, so that they cannot be compared at matched recall; widen the range of settings of "
        "either one"
    )
    return FrontierComparison(None, None, seeds, tuple((at, None) for at in recalls), reason)


def _frontier(points: Float[np.ndarray, "settings 2"]) -> Curve:
    points = points[np.isfinite(points).all(axis=1)]
    points = points[np.argsort(points[:, 1], kind="stable")]
    precision = np.maximum.accumulate(points[::-1, 0])[::-1]
    recall, at = np.unique(points[:, 1], return_index=True)
    return recall, precision[at]


def study_frontier(
    students: Sequence[Student], controls: Sequence[Control], reference_log_prob: Float[np.ndarray, " n"]
) -> Frontier:
    """The ideal, each setting's distance from it, and the comparison with the control.

    reference_log_prob: p*'s log-probabilities of the test draws that every student's recall was measured on.
    """
    grid = Grid.of(students)
    return Frontier(
        ideal=tuple(
            IdealRecall(
                precision=point.precision, recall=point.recall, effective_sample_size=point.effective_sample_size
            )
            for point in ideal_frontier(reference_log_prob)
        ),
        efficiency_gap=tuple(_gap(grid, column, reference_log_prob) for column in range(len(grid.candidates))),
        control=compare_with_controls(students, controls),
    )


def _gap(grid: Grid, column: int, log_p: Float[np.ndarray, " n"]) -> SettingGap:
    """One setting's efficiency gap: mean and 95% t-interval over seeds; what limits it is read at its mean
    precision."""
    whose, pairs = grid.candidates[column], list(zip(grid.precision[:, column], grid.recall[:, column], strict=True))
    if not np.isfinite(pairs).all():
        infinite = EfficiencyGap(
            None, None, None, "an estimate is infinite, or missing for a seed, so there is no mean over seeds"
        )
        return _setting_gap(whose, infinite, None)
    gaps = [efficiency_gap(log_p, precision=float(precision), recall=float(recall)) for precision, recall in pairs]
    beyond = next((gap for gap in gaps if gap.gap is None), None)
    if beyond is not None:
        return _setting_gap(whose, beyond, None)
    mean = np.mean(pairs, axis=0)
    whole = efficiency_gap(log_p, precision=float(mean[0]), recall=float(mean[1]))
    return _setting_gap(whose, whole, t_interval([gap.gap for gap in gaps if gap.gap is not None]))


def _setting_gap(whose: Candidate, whole: EfficiencyGap, gap: Interval | None) -> SettingGap:
    return SettingGap(
        setting=whose, gap=gap, limited_by=whole.limited_by, ideal_recall=whole.ideal_recall, reason=whole.reason
    )


def compare_with_controls(students: Sequence[Student], controls: Sequence[Control]) -> ControlComparison:
    """The distilled frontier against the mandatory control, the direct student sampled at each temperature.

    Distillation earns its keep only where its frontier is the higher one.
    """
    distilled = Grid.of(student for student in students if student.training == "distilled")
    control = Grid.of([*(student for student in students if student.training == "direct"), *controls])
    seeds = sorted(set(distilled.seeds) & set(control.seeds))

    def points(grid: Grid) -> Float[np.ndarray, "seeds settings 2"]:
        return np.stack([grid.precision, grid.recall], -1)[[grid.seeds.index(seed) for seed in seeds]]

    if controls:
        found = compare_frontiers(first=points(distilled), second=points(control))
    else:
        reason = (
            "these results hold no controls, the direct student sampled at each temperature; run the study again "
            "to measure them"
        )
        found = FrontierComparison(None, None, len(seeds), reason=reason)
    return control_comparison(found)


def control_comparison(found: FrontierComparison) -> ControlComparison:
    """The comparison with the control as results hold it."""
    verdicts = {
        1: "distillation beats sampling the direct student more sharply",
        0: "not shown",
        -1: "distillation is beaten by sampling the direct student more sharply",
    }
    return ControlComparison(
        precision_difference=found.difference,
        recall_range=found.overlap,
        seeds=found.seeds,
        verdict=verdicts[found.verdict()],
        reason=found.reason,
    )
