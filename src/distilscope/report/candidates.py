"""Who is compared in a results document: students, controls and teachers by kind, each with one record per seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distilscope.evaluation.estimate import Interval, t_interval
from distilscope.report.results_table import setting_label

Record = Mapping[str, Any]

ROLES = ("reference", "teacher", "distilled", "direct", "control")
"""Everyone who has a colour and a shape of their own; a control is the direct student drawn at a teacher's setting."""


FEW_SEEDS = 3
"""With fewer, the quantile of t is so large that an interval says little (12.7 for two)."""


@dataclass(frozen=True)
class Group:
    """One kind of candidate over the seeds."""

    role: str
    selectivity: Mapping[str, float | int] | None
    """The teacher's when it made D'; a control's own when it was drawn; None for the direct student."""
    records: tuple[Record, ...]

    @property
    def label(self) -> str:
        """Short, for beside a point: "τ = 0.8", "top-k 50", "direct", "direct at τ = 0.8"."""
        own = setting_label(self.selectivity)
        return f"direct at {own}" if self.role == "control" else own

    @property
    def name(self) -> str:
        """As a sentence calls it: "distilled at τ = 0.8", "direct at τ = 0.8", "teacher at τ = 0.8", "direct"."""
        return f"{self.role} at {self.label}" if self.role in ("distilled", "teacher") else self.label

    @property
    def temperature(self) -> float | None:
        """Where the setting is a temperature and nothing else."""
        sampling = self.selectivity or {}
        return float(sampling["temperature"]) if set(sampling) == {"temperature"} else None

    @property
    def setting(self) -> dict[str, Any]:
        """As recommendations name it."""
        return {"training": "direct"} if self.role == "direct" else {"training": self.role, **(self.selectivity or {})}

    def values(self, name: str) -> list[float | None]:
        """The means by seed; None where a record has no finite one."""
        return [record[name]["mean"] if record.get(name) else None for record in self.records]

    def interval(self, name: str) -> Interval | None:
        """Over the seeds; None where a seed has no finite value."""
        values = self.values(name)
        finite = [value for value in values if value is not None]
        return t_interval(finite) if finite and len(finite) == len(values) else None


@dataclass(frozen=True)
class Cast:
    """Everyone in a results document: temperatures rising, then other settings in their order; a sweep's other students
    left out."""

    results: Mapping[str, Any]

    @cached_property
    def distilled(self) -> list[Group]:
        return _grouped("distilled", (one for one in self._students if one["training"] == "distilled"), "selectivity")

    @cached_property
    def direct(self) -> list[Group]:
        """One group, or none in a document without a direct student."""
        return _grouped("direct", (one for one in self._students if one["training"] == "direct"), "selectivity")

    @cached_property
    def controls(self) -> list[Group]:
        """The direct student drawn at each of the teacher's settings, without the one at which every student is
        measured."""
        usual = {"temperature": self.results.get("evaluation_temperature", 1.0)}
        others = (one for one in self.results.get("controls") or () if one["evaluation_selectivity"] != usual)
        return _grouped("control", others, "evaluation_selectivity")

    @cached_property
    def teachers(self) -> list[Group]:
        return _grouped("teacher", self.results.get("teacher") or (), "selectivity")

    @property
    def recommended(self) -> Group | None:
        """The recommended setting's students; None where nothing is recommended."""
        wanted = (self.results.get("recommendation") or {}).get("setting")
        return next((group for group in (*self.distilled, *self.direct) if group.setting == wanted), None)

    @property
    def ink(self) -> float:
        """How strongly intervals are drawn: faintly where few seeds make them wider than anything else."""
        return 1.0 if self.results["seeds"] >= FEW_SEEDS else 0.4

    @property
    def everyone(self) -> list[Group]:
        return [*self.distilled, *self.direct, *self.controls]

    @property
    def _students(self) -> Iterable[Record]:
        return (one for one in self.results["students"] if not one.get("variant"))


def _grouped(role: str, records: Iterable[Record], sampling: str) -> list[Group]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(repr(record[sampling]), []).append(record)
    groups = [Group(role, each[0][sampling], tuple(each)) for each in found.values()]
    return sorted(groups, key=lambda group: (group.temperature is None, group.temperature or 0.0))
