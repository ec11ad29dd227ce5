"""The candidates of a study with their records, one per seed: teachers, students and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.estimate import Interval, t_interval
from distilscope.evaluation.results import Results, Student, Teacher, by_candidate

FEW_SEEDS = 3
"""With fewer, the quantile of t is so large that an interval says little (12.7 for two)."""


T = TypeVar("T", bound=Teacher | Student)


@dataclass(frozen=True)
class Group(Generic[T]):
    """A candidate's records, one per seed."""

    candidate: Candidate
    records: tuple[T, ...]

    def values(self, name: str) -> list[float | None]:
        """The means of an estimate such as `precision`, by seed; None where it is not finite or not available."""
        return [getattr(record, name).mean for record in self.records]

    def interval(self, name: str) -> Interval | None:
        """Over the seeds; None where a seed has no finite value."""
        values = self.values(name)
        finite = [value for value in values if value is not None]
        return t_interval(finite) if finite and len(finite) == len(values) else None


@dataclass(frozen=True)
class Candidates:
    """All candidates of a study, in their order; a sweep's other sizes are left out."""

    results: Results

    @cached_property
    def distilled(self) -> list[Group[Student]]:
        return _groups([one for one in self.results.own_students if one.training == "distilled"])

    @cached_property
    def direct(self) -> list[Group[Student]]:
        """One group, or none in a study without a direct student."""
        return _groups([one for one in self.results.own_students if one.training == "direct"])

    @cached_property
    def controls(self) -> list[Group[Student]]:
        """The direct student drawn at each of the teacher's settings, without the one at which every student is
        measured."""
        usual = self.results.evaluated_at
        return _groups([one for one in self.results.controls if one.evaluation_selectivity != usual])

    @cached_property
    def teachers(self) -> list[Group[Teacher]]:
        return _groups(self.results.teacher)

    @property
    def recommended(self) -> Group[Student] | None:
        """The recommended candidate; None where nothing is recommended."""
        wanted = self.results.recommendation.setting
        return next((group for group in (*self.distilled, *self.direct) if group.candidate == wanted), None)

    @property
    def students(self) -> list[Group[Student]]:
        """Distilled, direct, and the controls."""
        return [*self.distilled, *self.direct, *self.controls]

    @property
    def interval_opacity(self) -> float:
        """Faint where few seeds make intervals wider than anything else."""
        return 1.0 if self.results.seeds >= FEW_SEEDS else 0.4


def _groups(records: Sequence[T]) -> list[Group[T]]:
    return [Group(candidate, tuple(each)) for candidate, each in by_candidate(records).items()]
