"""The story, configured: p* is drawn, a teacher p' learns it, students p'' learn the selected teacher, all are measured.

`planning.plan` lays a `Distillation` out as steps, computing nothing; `study.run` carries it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distilscope.costs import Cost
from distilscope.errors import UsageError
from distilscope.ground_truth import GroundTruth, Size
from distilscope.lm.dtypes import require_dtype
from distilscope.lm.training import Training
from distilscope.runs.step import Step, order
from distilscope.selectivity import Temperature, from_knobs

SCRATCH = "scratch:"

Knobs = Mapping[str, float | int]
"""A selectivity by its sampling options, as `from_knobs` takes it."""


@dataclass(frozen=True)
class Learner:
    """A model that is trained: the teacher p' or a student p''."""

    size: Size
    """Its sizes when it starts from scratch."""
    training: Training
    dtype: str = "float32"
    """What it draws and is scored in."""
    reference: str = ""
    """The model that it starts from, named as `load` takes it; empty means from scratch. scratch:WIDTHxLAYERS means from scratch at
    that size and is kept as such: `size` changes and this is empty."""

    def __post_init__(self) -> None:
        require_dtype(self.dtype)
        if self.reference.startswith(SCRATCH):
            object.__setattr__(self, "size", self.size.scaled(self.reference.removeprefix(SCRATCH)))
            object.__setattr__(self, "reference", "")
        if not self.training.epochs and not self.reference:
            raise UsageError("training.epochs is 0, but a model from scratch must be trained; give it a reference, or at least 1 epoch")


@dataclass(frozen=True)
class Teacher(Learner):
    """p', and the settings at which it makes D' beside the temperatures."""

    selectivity: tuple[str, ...] = ()
    """Each like top_k=50, top_p=0.9 or min_p=0.05; several knobs are joined by commas: top_k=50,temperature=0.9."""

    @property
    def settings(self) -> tuple[Knobs, ...]:
        return tuple(_knobs(text) for text in self.selectivity)


def _knobs(text: str) -> Knobs:
    knobs: dict[str, float | int] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip().replace("-", "_")
        try:
            knobs[name] = int(value) if name == "top_k" else float(value)
        except ValueError:
            raise UsageError(
                f"teacher.selectivity has {text!r}, but each setting is written name=number, such as top_k=50 or top_p=0.9"
            ) from None
    from_knobs(knobs)
    return knobs


@dataclass(frozen=True)
class Sweep:
    """What is varied beside the teacher's setting, one thing at a time."""

    student_sizes: tuple[str, ...] = ()
    """More students from scratch, each WIDTHxLAYERS, such as 96x3."""
    num_distill: tuple[int, ...] = ()
    """More sizes of D', each below the study's `num_distill`: the first draws of it."""


@dataclass(frozen=True)
class Resources:
    """What steps take of the machines they run on. No number of a study depends on it."""

    train_gpus: int = 0
    """GPUs that the engine ray sets aside for each training; where there are any, at least one for each of its processes."""
    tile_gpus: int = 0
    """GPUs that it sets aside for each tile that is drawn or scored; with 0 these see none."""

    def __post_init__(self) -> None:
        for name in ("train_gpus", "tile_gpus"):
            if getattr(self, name) < 0:
                raise UsageError(f"resources.{name} is {getattr(self, name)}, but must be at least 0")


@dataclass(frozen=True)
class Distillation:
    """A study of teacher temperatures."""

    recipe: str
    ground_truth: GroundTruth
    teacher: Teacher
    student: Learner
    temperatures: tuple[float, ...] = (0.8, 0.875, 0.95, 1.0)
    """The teacher's, when it makes D' (training temperatures)."""
    seeds: int = 5
    evaluation_temperature: float = 1.0
    """The student's, when it is measured."""
    num_distill: int = 0
    """Sequences in each D'; 0 means as many as in D."""
    num_teacher_eval: int = 128
    """Draws of each selected teacher that p* scores."""
    tile: int = 512
    """Draws made together, through `slots` slots; both are part of what the draws are."""
    slots: int = 256
    sweep: Sweep = Sweep()
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        if not self.temperatures and not self.teacher.settings:
            raise UsageError("temperatures is empty, but a study needs at least one; give for example --temperatures 0.8 1.0")
        for temperature in (*self.temperatures, self.evaluation_temperature):
            Temperature(temperature)
        if len(set(self.temperatures)) < len(self.temperatures):
            raise UsageError(f"temperatures {' '.join(map(str, self.temperatures))} name one twice; give each once")
        if len({tuple(sorted(knobs.items())) for knobs in self.settings}) < len(self.settings):
            raise UsageError(f"teacher.selectivity {' '.join(self.teacher.selectivity)} repeats a setting; give each once")
        for name in ("seeds", "tile", "slots"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.ground_truth.draws and not self.teacher.reference:
            raise UsageError(
                f"the data in {self.ground_truth.draws} brings no tokenizer, so the teacher must be a pretrained model; give --teacher REF"
            )
        if self.num_teacher_eval < 2 or self.num_distill < 0:
            raise UsageError("num_teacher_eval must be at least 2, and num_distill at least 0 (as many as num_train)")
        for number in self.sweep.num_distill:
            if not 0 < number < self.distil_draws:
                raise UsageError(f"sweep.num_distill has {number}, but each must be above 0 and below num_distill ({self.distil_draws})")
        if self.sweep.student_sizes and self.student.reference:
            raise UsageError(
                f"sweep.student_sizes asks for students from scratch, but the student starts from {self.student.reference}; "
                "leave out one of the two"
            )
        for text in self.sweep.student_sizes:
            self.student.size.scaled(text)

    @property
    def distil_draws(self) -> int:
        return self.num_distill or self.ground_truth.num_train

    @property
    def settings(self) -> tuple[Knobs, ...]:
        """The teacher's, when it makes D': the temperatures, then the other knobs."""
        return (*({"temperature": tau} for tau in self.temperatures), *self.teacher.settings)


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
    setting: Knobs | None
    """The teacher's when it made D' (for a teacher: its own, when drawn from); None for a direct student."""
    evaluation: Knobs
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
    """The candidate's draws, tile by tile, scored by the candidate (the two gates) and by p* (precision), where there is a p*."""
    of_reference: tuple[Step, ...]
    """p*'s test draws, tile by tile, scored by p* and by every candidate of the seed, maybe of other seeds, too (recall)."""
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
