"""Is it the sampling parameter or the entropy? Top-k, top-p and min-p against temperature, at the same entropy of the
teacher.

The students of the temperature sweep give precision and recall as functions of their teacher's entropy per token;
another setting's student is held against them at its own teacher's entropy, seed by seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distilscope.evaluation.by_seed import setting_of
from distilscope.evaluation.estimate import t_interval


def matched_entropy(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each setting that is no temperature: the teacher's entropy (nats per token) and what the student gains over
    temperature there.

    Differences are in the results' unit, with 95% t-intervals over seeds; None, with a reason, where a seed's
    temperatures do not span the setting's entropy. Entropy per token is the teacher's entropy per sequence over its own
    mean length.
    """
    entropy = {
        (_name(one), one["seed"]): one["entropy"]["mean"] / one["mean_length"]["mean"] for one in results["teacher"]
    }
    students = {
        (_name(one), one["seed"]): one
        for one in results["students"]
        if one["training"] == "distilled" and not one.get("variant")
    }
    seeds = sorted({seed for _, seed in students})
    names = dict.fromkeys(name for name, _ in students)
    temperatures = [name for name in names if set(dict(name)) == {"training", "temperature"}]
    found = []
    for name in names:
        if name in temperatures:
            continue
        at = [entropy[name, seed] for seed in seeds]
        record: dict[str, Any] = {"setting": dict(name), "teacher_entropy_per_token": t_interval(at).as_json()}
        differences = [_differences(students, entropy, temperatures, name, seed) for seed in seeds]
        reason = next((one for one in differences if isinstance(one, str)), None)
        pairs = [one for one in differences if not isinstance(one, str)]
        for place, quantity in enumerate(("precision_difference", "recall_difference")):
            record[quantity] = None if reason else t_interval([pair[place] for pair in pairs]).as_json()
        found.append(record | {"reason": reason})
    return found


def _differences(
    students: Mapping[Any, Mapping[str, Any]],
    entropy: Mapping[Any, float],
    temperatures: list[Any],
    name: Any,
    seed: int,
) -> tuple[float, float] | str:
    """Precision and recall beyond those that temperature alone has at the same entropy, for one seed; or why that
    cannot be said."""
    points = []
    for other in (name, *temperatures):
        means = [students[other, seed][quantity]["mean"] for quantity in ("precision", "recall")]
        if None in means:
            return f"seed {seed} has an infinite estimate among those compared"
        points.append((entropy[other, seed], *means))
    (at, *mine), *others = points
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


def _name(record: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A teacher's record and its student's have one name: the setting."""
    return tuple(setting_of({"training": "distilled", "selectivity": record["selectivity"]}).items())
