"""Is it the sampling parameter or the entropy? Top-k, top-p and min-p against temperature, at the same entropy of the
teacher.

The students of the temperature sweep give precision and recall as functions of their teacher's entropy per token;
another setting's student is held against them at its own teacher's entropy, seed by seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.estimate import t_interval
from distilscope.evaluation.results import MatchedEntropy, Student, Teacher


def matched_entropy(teachers: Sequence[Teacher], students: Sequence[Student]) -> tuple[MatchedEntropy, ...]:
    """For each setting that is no temperature: the teacher's entropy (nats per token) and what the student gains over
    temperature there.

    Differences are in the students' unit, with 95% t-intervals over seeds; None, with a reason, where a seed's
    temperatures do not span the setting's entropy. Entropy per token is the teacher's entropy per sequence over its own
    mean length.
    """
    of_teacher = {(Candidate("distilled", one.selectivity), one.seed): one.entropy_per_token for one in teachers}
    points = {
        (one.candidate, one.seed): _Point(of_teacher[one.candidate, one.seed], one.precision.mean, one.recall.mean)
        for one in students
        if one.training == "distilled" and not one.candidate.swept
    }
    seeds = sorted({seed for _, seed in points})
    candidates = dict.fromkeys(candidate for candidate, _ in points)
    temperatures = [candidate for candidate in candidates if candidate.temperature is not None]
    return tuple(
        _matched(candidate, temperatures, seeds, points) for candidate in candidates if candidate.temperature is None
    )


@dataclass(frozen=True)
class _Point:
    """A student's precision and recall at its teacher's entropy per token."""

    entropy: float
    precision: float | None
    recall: float | None


_Points = Mapping[tuple[Candidate, int], _Point]


def _matched(
    candidate: Candidate, temperatures: Sequence[Candidate], seeds: Sequence[int], points: _Points
) -> MatchedEntropy:
    differences = [
        _differences(points[candidate, seed], [points[other, seed] for other in temperatures], seed) for seed in seeds
    ]
    reason = next((one for one in differences if isinstance(one, str)), None)
    pairs = [one for one in differences if not isinstance(one, str)]
    precision, recall = (None if reason else t_interval([pair[place] for pair in pairs]) for place in (0, 1))
    return MatchedEntropy(
        setting=candidate,
        teacher_entropy_per_token=t_interval([points[candidate, seed].entropy for seed in seeds]),
        precision_difference=precision,
        recall_difference=recall,
        reason=reason,
    )


def _differences(point: _Point, temperatures: Sequence[_Point], seed: int) -> tuple[float, float] | str:
    """Precision and recall beyond those that temperature alone has at the same entropy, for one seed; or why that
    cannot be said."""
    curve = []
    for one in (point, *temperatures):
        if one.precision is None or one.recall is None:
            return f"seed {seed} has an infinite estimate among those compared"
        curve.append((one.entropy, one.precision, one.recall))
    (at, *mine), *others = curve
    grid = np.array(sorted(others), dtype=np.float64).reshape(-1, 3)
    if len(grid) < 2 or not grid[0, 0] <= at <= grid[-1, 0]:
        span = f"from {grid[0, 0]:.2f} to {grid[-1, 0]:.2f}" if len(grid) else "of none"
        return (
            f"the teacher's entropy of {at:.2f} nats per token (seed {seed}) is outside those of its temperatures, "
            f"{span}; "
            "add temperatures that enclose it"
        )
    precision, recall = (
        float(value - np.interp(at, grid[:, 0], grid[:, column])) for column, value in enumerate(mine, start=1)
    )
    return precision, recall
