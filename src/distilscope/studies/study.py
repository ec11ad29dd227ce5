"""A study laid out as steps: who is trained on what, whose draws are scored by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distilscope.errors import DistilscopeError
from distilscope.evaluation.candidates import Candidate, SamplingParameters
from distilscope.pipeline.step import Step, order
from distilscope.studies.config import Distillation
from distilscope.studies.costs import Cost

PLAIN = SamplingParameters({"temperature": 1.0})
"""What p* is drawn and scored at."""


def place_among_others(scored: Step, model: Step, drawn_at: SamplingParameters) -> int:
    """The number under which a step that scores draws keeps those of `model` at `drawn_at`, counted over the settings
    of each of its `others`.

    Read from the step itself, whose fingerprint covers it, so that no count kept elsewhere can point to another model.
    Raises DistilscopeError where the step scores no such one.
    """
    place = 0
    for i, other in enumerate(scored.config["others"]):
        for sampling in other["selectivities"]:
            if scored.inputs[f"other/{i}"].fingerprint == model.fingerprint and drawn_at == sampling:
                return place
            place += 1
    raise DistilscopeError(
        f"the step {scored.fingerprint[:12]} ({scored.title}) does not score by the model {model.fingerprint[:12]} at "
        f"{drawn_at.phrase}, but the study reads such scores; run the study again"
    )


@dataclass(frozen=True)
class Measured:
    """A candidate's draws and the scores that precision and recall are read from."""

    candidate: Candidate
    drawn_at: SamplingParameters
    seed: int
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

    def place_among(self, scored: Step) -> int:
        """Which of the others this candidate is in one of `of_reference`."""
        return place_among_others(scored, self.model, self.drawn_at)


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

    def place_of_reference(self, scored: Step) -> int:
        """Which of the others p* is in one of a candidate's `scores`."""
        assert self.ground_truth is not None
        return place_among_others(scored, self.ground_truth, PLAIN)

    @property
    def targets(self) -> list[Step]:
        """What a run must have at its end: everything, so that an artifact that was lost is made again."""
        return order(step for one in self.measured() for step in (*one.scores, *one.of_reference))
