"""Results documents with numbers that a test chooses."""

from __future__ import annotations

from typing import Any


def estimate(mean: float | None) -> dict[str, Any]:
    return {"mean": None, "stderr": None, "n": 64, "infinite": 3} if mean is None else {"mean": float(mean), "stderr": 0.5, "n": 64}


def student(
    temperature: float | None,
    seed: int,
    *,
    precision: float | None,
    recall: float | None,
    selectivity: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Direct without temperature and selectivity. A mean of None is an infinite estimate."""
    distilled = temperature is not None or selectivity is not None
    record = {"training": "distilled" if distilled else "direct", "temperature": temperature, "seed": seed}
    if selectivity is not None:
        record["selectivity"] = selectivity
    return record | {"precision": estimate(precision), "recall": estimate(recall)}


def document(students: list[dict[str, Any]], controls: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "unit": "nats per sequence",
        "ground_truth": {"horizon": 24},
        "seeds": len({one["seed"] for one in students}),
        "students": students,
        "controls": controls or [],
    }
