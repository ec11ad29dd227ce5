"""Effects of a trap: a quantity measured with and without it, and the difference with its interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distilscope.evaluation.documents import document_of
from distilscope.evaluation.estimate import Interval, t_interval

NATS = "nats per sequence"

ROUNDING = 1e-9
"""Differences below this are rounding of double-precision sums."""


@dataclass(frozen=True)
class Reading:
    """A quantity with and without a trap, in one seed. Both values use the same random keys: only the trap differs."""

    quantity: str
    as_published: float
    by_definition: float
    says: str
    """What an effect other than zero means."""
    unit: str = NATS
    exact: bool = False
    """Whether one side is zero by construction. Then any difference is the trap's, and no interval is needed."""


@dataclass(frozen=True)
class Finding:
    """What a trap changed in one seed."""

    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()
    """Messages of the definition's own code where it meets the trap."""

    def as_json(self) -> dict[str, Any]:
        return {"readings": [asdict(reading) for reading in self.readings], "notes": list(self.notes)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Finding:
        return cls(tuple(Reading(**reading) for reading in record["readings"]), tuple(record["notes"]))


def over_seeds(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """One row per quantity: means and t-intervals over seeds, the effect's from the paired differences."""
    rows = []
    for readings in zip(*(finding.readings for finding in findings), strict=True):
        first = readings[0]
        published, definition = [r.as_published for r in readings], [r.by_definition for r in readings]
        effect = t_interval([a - b for a, b in zip(published, definition, strict=True)])
        columns = (t_interval(published), t_interval(definition), effect)
        rows.append(
            row(
                first.quantity,
                first.unit,
                *columns,
                first.says,
                seen=(first.exact and effect.mean != 0) or is_seen(effect),
            )
        )
    return rows


def row(
    quantity: str,
    unit: str,
    as_published: Interval,
    by_definition: Interval,
    effect: Interval,
    says: str,
    *,
    seen: bool,
    published: float | None = None,
) -> dict[str, Any]:
    """A row of the audit. `published` is the paper's own number, where it gives one."""
    return {
        "quantity": quantity,
        "unit": unit,
        "published": published,
        "as_published": document_of(as_published),
        "by_definition": document_of(by_definition),
        "effect": document_of(effect),
        "seen": seen,
        "means": meaning(effect, says, seen=seen),
    }


def is_seen(effect: Interval) -> bool:
    """Whether the interval excludes zero. A single seed has no interval, so nothing is seen."""
    return abs(effect.mean) > ROUNDING and effect.half_width is not None and abs(effect.mean) > effect.half_width


def meaning(effect: Interval, says: str, *, seen: bool) -> str:
    if seen:
        return says
    if abs(effect.mean) < ROUNDING and not (effect.half_width or 0.0) > ROUNDING:
        return "no effect: the two are equal"
    return "no effect to be seen at this size: the interval holds 0"
