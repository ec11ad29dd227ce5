"""A study laid out as steps: who is trained on what, whose draws are scored by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distilscope.pipeline.step import Step, order
from distilscope.studies.config import Distillation, SamplingParameters, Size
from distilscope.studies.costs import Cost


@dataclass(frozen=True)
class Variant:
    """A student's capacity and how much it is trained on."""

    size: Size
    num_distill: int


@dataclass(frozen=True)
class Measured:
    """A candidate's draws and the scores that precision and recall are read from."""

    training: str
    """`teacher`, `direct` or `distilled`."""
    setting: SamplingParameters | None
    """The teacher's when it made D' (for a teacher: its own, when drawn from); None for a direct student."""
    evaluation: SamplingParameters
    """What the candidate is drawn at."""
    seed: int
    variant: Variant | None
    """None for a teacher."""
    model: Step
    dtype: str
    draws: tuple[Step, ...]
    number: int
    """How many of the draws are scored."""
    scores: tuple[Step, ...]
    """The candidate's draws, tile by tile, scored by the candidate (the two gates) and by p* (precision), where there
    is a p*."""
    of_reference: tuple[Step, ...]
    """p*'s test draws, tile by tile, scored by p* and by every candidate of the seed, maybe of other seeds, too
    (recall)."""
    index: int
    """Which of those this candidate is."""


@dataclass(frozen=True)
class Study:
    """Every step of a study, by its role."""

    config: Distillation
    ground_truth: Step | None
    """None where real data stands in for it."""
    prompts: Step
    data: tuple[Step, ...]
    """D, the sequences that the teacher and the direct student learn, or the rows of data in its place."""
    validation: tuple[Step, ...]
    test: tuple[Step, ...]
    teachers: tuple[Measured, ...]
    students: tuple[Measured, ...]
    controls: tuple[Measured, ...]
    """The direct student drawn at each of the teacher's settings: what distillation must beat."""
    costs: Mapping[Step, Cost]
    """What each step takes."""
    parameters: Mapping[str, int]
    """Weights of p*, teacher and student, by role."""
    sources: Mapping[str, Any]
    """What the study was planned from, by content: enough to plan it again."""

    def measured(self) -> Iterator[Measured]:
        yield from (*self.students, *self.controls, *self.teachers)

    @property
    def targets(self) -> list[Step]:
        """What a run must have at its end: everything, so that an artifact that was lost is made again."""
        return order(step for one in self.measured() for step in (*one.scores, *one.of_reference))
