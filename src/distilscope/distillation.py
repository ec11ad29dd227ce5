"""The story as a plan: p* is drawn, a teacher p' learns it, students p'' learn the selected teacher, all are measured.

`Distillation` configures a study; `plan` lays it out as steps, computing nothing; `study.run` carries it out. D, D_val and the
test draws of p* are made once; a seed varies teacher, D', student, order and evaluation draws. Students of one seed
share initial weights, order and random numbers at every training temperature, so that their differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.ground_truth import SEEDED, GroundTruth, Size
from distilscope.lm.hardware import require_dtype, resolved_dtype
from distilscope.lm.training import Training
from distilscope.runs.step import Step, order
from distilscope.selectivity import Temperature

CODE = {"ground_truth": 1, "draws": 1, "training": 1, "scores": 1}
"""Raised when what a kind of step computes changes."""


@dataclass(frozen=True)
class Learner:
    """A model trained from scratch: the teacher p' or a student p''."""

    size: Size
    training: Training
    dtype: str = "float32"
    """What it draws and is scored in."""

    def __post_init__(self) -> None:
        require_dtype(self.dtype)


@dataclass(frozen=True)
class Distillation:
    """A study of teacher temperatures."""

    recipe: str
    ground_truth: GroundTruth
    teacher: Learner
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

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise UsageError("temperatures is empty, but a study needs at least one; give for example --temperatures 0.8 1.0")
        for temperature in (*self.temperatures, self.evaluation_temperature):
            Temperature(temperature)
        if len(set(self.temperatures)) < len(self.temperatures):
            raise UsageError(f"temperatures {' '.join(map(str, self.temperatures))} name one twice; give each once")
        for name in ("seeds", "tile", "slots"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.num_teacher_eval < 2 or self.num_distill < 0:
            raise UsageError("num_teacher_eval must be at least 2, and num_distill at least 0 (as many as num_train)")

    @property
    def distil_draws(self) -> int:
        return self.num_distill or self.ground_truth.num_train


@dataclass(frozen=True)
class Measured:
    """A candidate's draws and the scores that precision and recall are read from."""

    training: str
    """`teacher`, `direct` or `distilled`."""
    temperature: float | None
    """The teacher's when it made D' (for a teacher: its own, when drawn from); None for a direct student."""
    seed: int
    model: Step
    draws: tuple[Step, ...]
    own: Step
    """The candidate's draws scored by the candidate: the two gates."""
    by_reference: Step
    """The candidate's draws scored by p*: precision."""
    of_reference: Step
    """p*'s test draws scored by the candidate: recall."""
    index: int
    """Which selectivity of `of_reference` is this candidate's."""

    def steps(self) -> Iterator[Step]:
        yield from (self.own, self.by_reference, self.of_reference)


@dataclass(frozen=True)
class Study:
    """Every step of a study, by its role."""

    config: Distillation
    ground_truth: Step
    test: tuple[Step, ...]
    reference_scores: Step
    """p*'s test draws scored again by p*: its two gates."""
    teachers: tuple[Measured, ...]
    students: tuple[Measured, ...]
    disk: Mapping[Step, int]
    """Bytes that each artifact takes, about."""
    parameters: Mapping[str, int]
    """Weights of p*, teacher and student, by role."""

    @property
    def targets(self) -> list[Step]:
        """What a run must have at its end: everything, so that an artifact that was lost is made again."""
        measured = [step for one in (*self.students, *self.teachers) for step in one.steps()]
        return order([self.reference_scores, *measured])


def plan(config: Distillation, *, identity: str, folder: str) -> Study:
    """Lays a study out as steps. `identity` is the digest of p*'s source, `folder` where that source lies here."""
    return _Planner(resolve(config), identity, folder).study()


def resolve(config: Distillation) -> Distillation:
    """The configuration with every `auto` settled by this machine's hardware, as it is saved with a run."""

    def settle(learner: Learner) -> Learner:
        training = replace(learner.training, precision=resolved_dtype(learner.training.precision))
        return replace(learner, training=training, dtype=resolved_dtype(learner.dtype))

    truth = replace(config.ground_truth, dtype=resolved_dtype(config.ground_truth.dtype))
    return replace(
        config, ground_truth=truth, teacher=settle(config.teacher), student=settle(config.student), num_distill=config.distil_draws
    )


class _Planner:
    def __init__(self, config: Distillation, identity: str, folder: str) -> None:
        self.config, truth = config, config.ground_truth
        self.vocabulary = truth.vocabulary or (257 if truth.reference == SEEDED else 49152)
        self.context = max(64, 2 ** math.ceil(math.log2(truth.horizon + len(truth.prompt.encode()) + 1)))
        sizes = {"ground_truth": truth.size, "teacher": config.teacher.size, "student": config.student.size}
        self.architecture = {role: size.architecture(self.vocabulary, self.context) for role, size in sizes.items()}
        self.dtypes = {"ground_truth": truth.dtype, "teacher": config.teacher.dtype, "student": config.student.dtype}
        self.disk: dict[Step, int] = {}
        source: dict[str, Any] = {"vocabulary": truth.vocabulary, "dtype": truth.dtype}
        if truth.reference == SEEDED:
            source |= {"reference": SEEDED, "size": asdict(truth.size), "sharpness": truth.sharpness, "context": self.context}
        else:
            source |= {"reference": "model", "sha256": identity}
        parameters = self.architecture["ground_truth"].parameters
        self.truth = Step(
            "ground_truth", source, {}, CODE["ground_truth"], stage="prepare p*", cost=20.0 * parameters, local={"folder": folder}
        )
        self.disk[self.truth] = parameters * (4 if truth.dtype == "float32" else 2)

    def study(self) -> Study:
        truth, root = self.config.ground_truth, Key(0, ("ground truth",))
        self.validation = self.draw("ground_truth", self.truth, root.child("validation"), 1.0, truth.num_validation, "draw D_val")
        self.test = self.draw("ground_truth", self.truth, root.child("test"), 1.0, truth.num_eval, "draw test set")
        data = self.draw("ground_truth", self.truth, root.child("train"), 1.0, truth.num_train, "draw D")
        seeds = [self.seed(seed, data) for seed in range(self.config.seeds)]
        return Study(
            self.config,
            self.truth,
            self.test,
            self.score("ground_truth", self.truth, self.test, (1.0,), truth.num_eval, "check p*'s draws"),
            teachers=tuple(measured for teachers, _ in seeds for measured in teachers),
            students=tuple(measured for _, students in seeds for measured in students),
            disk=self.disk,
            parameters={role: architecture.parameters for role, architecture in self.architecture.items()},
        )

    def seed(self, seed: int, data: tuple[Step, ...]) -> tuple[list[Measured], list[Measured]]:
        config, key = self.config, Key(seed)
        teacher = self.train("teacher", config.teacher, data, key.child("teacher"), "train teachers")
        teachers, students = [], [self.student("direct", None, seed, data, key)]
        for temperature in config.temperatures:
            distilled = self.draw("teacher", teacher, key.child("distil"), temperature, config.distil_draws, "draw D'")
            teachers.append(
                self.measured("teacher", "teacher", temperature, seed, teacher, distilled, config.num_teacher_eval, temperature)
            )
            students.append(self.student("distilled", temperature, seed, distilled, key))
        return teachers, students

    def student(self, training: str, temperature: float | None, seed: int, data: tuple[Step, ...], key: Key) -> Measured:
        number, evaluated = self.config.ground_truth.num_eval, self.config.evaluation_temperature
        model = self.train("student", self.config.student, data, key.child("student"), "train students")
        draws = self.draw("student", model, key.child("evaluate"), evaluated, number, "draw students")
        return self.measured(training, "student", temperature, seed, model, draws, number, evaluated)

    def measured(
        self,
        training: str,
        role: str,
        temperature: float | None,
        seed: int,
        model: Step,
        draws: tuple[Step, ...],
        first: int,
        sampled_at: float,
    ) -> Measured:
        # one pass scores p*'s test draws at every temperature that this model is drawn from
        scored_at = self.config.temperatures if role == "teacher" else (sampled_at,)
        return Measured(
            training,
            temperature,
            seed,
            model,
            draws,
            own=self.score(role, model, draws, (sampled_at,), first, f"check {role}s' draws"),
            by_reference=self.score("ground_truth", self.truth, draws, (1.0,), first, f"score {role}s by p*"),
            of_reference=self.score(role, model, self.test, scored_at, self.config.ground_truth.num_eval, f"score p* by {role}s"),
            index=scored_at.index(sampled_at),
        )

    def draw(self, role: str, model: Step, key: Key, temperature: float, number: int, stage: str) -> tuple[Step, ...]:
        config, truth = self.config, self.config.ground_truth
        tiles = []
        for tile in range(math.ceil(number / config.tile)):
            draws = min(config.tile, number - tile * config.tile)
            what = {
                "key": [key.seed, *key.path],
                "tile": tile,
                "draws": draws,
                "slots": config.slots,
                "prompt": truth.prompt,
                "horizon": truth.horizon,
                "selectivity": {"temperature": temperature},
                "dtype": self.dtypes[role],
            }
            tokens = draws * truth.horizon
            cost = tokens * self.architecture[role].flops_per_token
            tiles.append(Step("draws", what, {"model": model}, CODE["draws"], stage, cost, tokens))
            self.disk[tiles[-1]] = tokens * (2 + 4) + draws * 5
        return tuple(tiles)

    def train(self, role: str, learner: Learner, data: tuple[Step, ...], key: Key, stage: str) -> Step:
        what = {"size": asdict(learner.size), "training": asdict(learner.training), "context": self.context, "key": [key.seed, *key.path]}
        inputs = _numbered("data", data) | _numbered("validation", self.validation) | {"tokenizer": self.truth}
        tokens = learner.training.epochs * sum(tile.tokens for tile in data)
        held_out = learner.training.evaluations * sum(tile.tokens for tile in self.validation)
        cost = (3 * tokens + held_out) * self.architecture[role].flops_per_token
        step = Step("training", what, inputs, CODE["training"], stage, cost, tokens)
        self.disk[step] = 4 * self.architecture[role].parameters
        return step

    def score(self, role: str, model: Step, draws: tuple[Step, ...], temperatures: tuple[float, ...], first: int, stage: str) -> Step:
        used = draws[: math.ceil(first / self.config.tile)]
        what = {"first": first, "selectivities": [{"temperature": tau} for tau in temperatures], "dtype": self.dtypes[role]}
        tokens = first * self.config.ground_truth.horizon
        cost = tokens * self.architecture[role].flops_per_token
        step = Step("scores", what, {"model": model} | _numbered("draws", used), CODE["scores"], stage, cost, tokens)
        self.disk[step] = tokens * len(temperatures) * 12
        return step


def _numbered(name: str, steps: tuple[Step, ...]) -> dict[str, Step]:
    return {f"{name}/{i}": step for i, step in enumerate(steps)}
