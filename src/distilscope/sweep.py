"""What results.json says of a sweep: whether the trade-off holds for each variant of the student, by size and by |D'|."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Student = Mapping[str, Any]


def by_variant(students: Iterable[Student]) -> list[tuple[dict[str, int], list[Student]]]:
    """The students of each variant, the study's own ({}) first, then as they come."""
    groups: dict[str, list[Student]] = {"{}": []}
    for student in students:
        groups.setdefault(json.dumps(student["variant"]), []).append(student)
    return [(json.loads(variant), group) for variant, group in groups.items()]


def sweep_document(students: Iterable[Student], trade_off: Callable[[list[Student]], dict[str, Any]]) -> list[dict[str, Any]]:
    """Each variant with its verdict over temperatures; empty where nothing was swept."""
    groups = by_variant(students)
    return [{"variant": variant, "trade_off": trade_off(group)} for variant, group in groups] if len(groups) > 1 else []
