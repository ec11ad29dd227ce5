"""Lays a study out as steps: what is drawn from what, trained on what, and scored by whom.

D, D_val and the test draws of p* are made once; a seed varies teacher, D', student, order and evaluation draws.
Students of one seed share initial weights, order and random numbers at every setting of the teacher, so that their
differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.evaluation.candidates import Candidate, SamplingParameters, Variant
from distilscope.lm.dtypes import AutoDtypes
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.pipeline.step import Needs, Step
from distilscope.studies.config import SEEDED, Distillation, Learner, Size
from distilscope.studies.costs import Cost
from distilscope.studies.inputs import Source, Sources
from distilscope.studies.steps.completions import DATA
from distilscope.studies.steps.draw import DRAWS
from distilscope.studies.steps.ground_truth import GROUND_TRUTH, MODEL
from distilscope.studies.steps.prompts import PROMPTS
from distilscope.studies.steps.registry import StepKind
from distilscope.studies.steps.score import SCORES
from distilscope.studies.steps.train import TRAINING
from distilscope.studies.study import PLAIN, Measured, Study


def plan(config: Distillation, sources: Sources, *, auto: AutoDtypes | None = None) -> Study:
    """The study as steps, with every `auto` dtype settled: by `auto`, else by this machine's hardware."""
    if sources.data:
        sources.data.require(config.ground_truth)
    _require_countable(config)
    return _Planner(resolve(config, auto), sources).study()


MOST_STEPS = 1_000_000
"""Of a study; the paper's own has 13 492."""


def _require_countable(config: Distillation) -> None:
    """Raises UsageError for a study of so many steps that laying it out would fill the memory."""
    truth, sweep = config.ground_truth, config.sweep
    most = max(truth.num_train, truth.num_validation, truth.num_eval, config.distil_draws)
    variants = (1 + len(config.settings)) * (1 + len(sweep.student_sizes) + len(sweep.num_distill))
    steps = config.seeds * variants * math.ceil(most / config.tile)
    if steps > MOST_STEPS:
        raise UsageError(
            f"the study would have some {steps:.0e} steps, more than {MOST_STEPS:,}; ask for fewer seeds or "
            "sequences, or a larger tile "
            f"(now {config.tile})"
        )


def resolve(config: Distillation, auto: AutoDtypes | None = None) -> Distillation:
    """The configuration with every `auto` settled, as it is saved with a run."""
    if auto is None:
        from distilscope.lm.device import fast_dtype

        auto = AutoDtypes(fast_dtype(), fast_dtype())
    tiles, training = auto.tiles, auto.training

    def settle(learner: Any) -> Any:
        precision = learner.training.precision
        trained = replace(learner.training, precision=training if precision == "auto" else precision)
        return replace(learner, training=trained, dtype=tiles if learner.dtype == "auto" else learner.dtype)

    truth = config.ground_truth
    return replace(
        config,
        ground_truth=replace(truth, dtype=tiles if truth.dtype == "auto" else truth.dtype),
        teacher=settle(config.teacher),
        student=settle(config.student),
        num_distill=config.distil_draws,
    )


def asks_for_auto(config: Distillation) -> bool:
    """Whether some dtype of the study depends on the devices that it will run on."""
    learners = (config.teacher, config.student)
    dtypes = (
        config.ground_truth.dtype,
        *(learner.dtype for learner in learners),
        *(learner.training.precision for learner in learners),
    )
    return "auto" in dtypes


@dataclass(frozen=True)
class _Drawn:
    """A candidate's draws, before it is known which step scores p*'s draws by it."""

    candidate: Candidate
    drawn_at: SamplingParameters
    seed: int
    role: str
    """Whose architecture and dtype: `teacher` or `student`."""
    model: Step
    draws: tuple[Step, ...]
    number: int


class _Planner:
    def __init__(self, config: Distillation, sources: Sources) -> None:
        self.config, self.sources, truth = config, sources, config.ground_truth
        known = sources.tokenizer.architecture
        self.vocabulary = truth.vocabulary or (
            257 if truth.reference == SEEDED else known.vocab_size if known else 49152
        )
        self.context = max(64, 2 ** math.ceil(math.log2(truth.horizon + sources.prompts.longest + 1)))
        self.learners = {"teacher": config.teacher, "student": config.student}
        sizes = {"ground_truth": truth.size, "teacher": config.teacher.size, "student": config.student.size}
        self.architecture = {
            role: replace(given.architecture, vocab_size=self.vocabulary)
            if (given := getattr(sources, role)) and given.architecture
            else size.architecture(self.vocabulary, self.context)
            for role, size in sizes.items()
        }
        self.dtypes = {"ground_truth": truth.dtype, "teacher": config.teacher.dtype, "student": config.student.dtype}
        self.tile_needs = Needs(gpus=config.resources.tile_gpus)
        self.costs: dict[Step, Cost] = {}
        self.truth: Step | None = None
        """None where real data stands in for it."""
        if sources.data:
            self.tokens = self.imported(MODEL, "teacher", sources.tokenizer, {}, "prepare teachers")
        elif truth.reference == SEEDED:
            source: dict[str, Any] = {"reference": SEEDED, "size": asdict(truth.size), "sharpness": truth.sharpness}
            source |= {"context": self.context, "vocabulary": truth.vocabulary, "dtype": truth.dtype}
            self.tokens = self.truth = self.made(GROUND_TRUTH, "ground_truth", source, {}, {}, "prepare p*")
        else:
            self.tokens = self.truth = self.imported(GROUND_TRUTH, "ground_truth", sources.tokenizer, {}, "prepare p*")
        chosen = {"sha256": sources.prompts.sha256}
        local = {"texts": sources.prompts.texts}
        cost = PROMPTS.cost(sources.prompts.texts)
        self.prompts = self.step(PROMPTS, chosen, {"tokenizer": self.tokens}, "read prompts", cost, local=local)

    def study(self) -> Study:
        truth = self.config.ground_truth
        self.validation = self.given("validation", 0, truth.num_validation, "D_val")
        self.test = self.given("test", truth.num_validation, truth.num_eval, "test set")
        data = self.given("train", truth.num_validation + truth.num_eval, truth.num_train, "D")
        candidates = [self.candidates(seed, data) for seed in range(self.config.seeds)]
        together = self.seeds_at_once(candidates[0])
        measured = [
            one
            for i in range(0, len(candidates), together)
            for one in self.scored(list(chain(*candidates[i : i + together])))
        ]
        students = [one for one in measured if one.candidate.role != "teacher"]
        direct = [one for one in students if one.candidate.role in ("direct", "control") and not one.candidate.swept]
        return Study(
            config=self.config,
            ground_truth=self.truth,
            prompts=self.prompts,
            data=data,
            validation=self.validation,
            test=self.test,
            teachers=tuple(one for one in measured if one.candidate.role == "teacher"),
            students=tuple(one for one in students if one.drawn_at == self.evaluated_at),
            controls=tuple(one for one in direct if one.drawn_at in self.config.settings),
            costs=self.costs,
            parameters={role: architecture.parameters for role, architecture in self.architecture.items()},
            sources=self.sources.as_json(),
        )

    def given(self, name: str, after: int, number: int, what: str) -> tuple[Step, ...]:
        """p*'s own draws of that name, or as many rows of the shuffled data after the first `after`."""
        key = Key(0, ("ground truth",))
        if self.truth is not None:
            return self.draw("ground_truth", self.truth, key.child(name), PLAIN, number, f"draw {what}")
        file, horizon, tiles = self.sources.data, self.config.ground_truth.horizon, []
        assert file is not None
        local = {
            "file": file.path,
            "template": file.template,
            "default": file.default,
            "texts": self.sources.prompts.texts,
        }
        shuffled = key.child("data")
        for start in range(0, number, self.config.tile):
            rows = min(self.config.tile, number - start)
            what_rows = {
                "sha256": file.sha256,
                "key": [shuffled.seed, *shuffled.path],
                "first": after + start,
                "rows": rows,
                "horizon": horizon,
            }
            inputs = {"tokenizer": self.tokens, "prompts": self.prompts}
            cost = DATA.cost(rows=rows, horizon=horizon)
            tiles.append(self.step(DATA, what_rows, inputs, f"read {what}", cost, local=local))
        return tuple(tiles)

    @property
    def evaluated_at(self) -> SamplingParameters:
        """What students are drawn at, controls apart."""
        return SamplingParameters({"temperature": self.config.evaluation_temperature})

    def candidates(self, seed: int, data: tuple[Step, ...]) -> list[_Drawn]:
        """Every candidate of a seed."""
        config, key = self.config, Key(seed)
        amount, learnt = config.distil_draws, config.ground_truth.num_train
        sizes = [config.student.size, *(config.student.size.scaled(text) for text in config.sweep.student_sizes)]
        teacher = self.learner("teacher", config.teacher.size, data, learnt, key.child("teacher"), "train teachers")
        found: list[_Drawn] = []
        for size in sizes:
            model, variant = self.student(size, data, learnt, key), self.variant(size, amount)
            found.append(self.evaluated(Candidate("direct", variant=variant), self.evaluated_at, model, seed))
            if size == config.student.size:  # the mandatory control
                others = [sampling for sampling in config.settings if sampling != self.evaluated_at]
                found += [
                    self.evaluated(Candidate("control", evaluation=sampling), sampling, model, seed)
                    for sampling in others
                ]
        for sampling in config.settings:
            distilled = self.draw("teacher", teacher, key.child("distil"), sampling, amount, "draw D'")
            number = min(config.num_teacher_eval, amount)
            found.append(_Drawn(Candidate("teacher", sampling), sampling, seed, "teacher", teacher, distilled, number))
            whose = [(size, amount) for size in sizes]
            whose += [(config.student.size, fewer) for fewer in config.sweep.num_distill]
            for size, sequences in whose:
                model = self.student(size, distilled, sequences, key)
                candidate = Candidate("distilled", sampling, variant=self.variant(size, sequences))
                found.append(self.evaluated(candidate, self.evaluated_at, model, seed))
        return found

    def variant(self, size: Size, num_distill: int) -> Variant:
        """What of a student's size and |D'| differs from the study's own."""
        own = self.config.student.size
        return Variant(
            hidden_size=None if size == own else size.hidden_size,
            layers=None if size == own else size.layers,
            num_distill=None if num_distill == self.config.distil_draws else num_distill,
        )

    def student(self, size: Size, data: tuple[Step, ...], number: int, key: Key) -> Step:
        return self.learner("student", size, data, number, key.child("student"), "train students")

    def evaluated(self, candidate: Candidate, drawn_at: SamplingParameters, model: Step, seed: int) -> _Drawn:
        number = self.config.ground_truth.num_eval
        draws = self.draw("student", model, Key(seed).child("evaluate"), drawn_at, number, "draw students")
        return _Drawn(candidate, drawn_at, seed, "student", model, draws, number)

    def seeds_at_once(self, of_a_seed: Sequence[_Drawn]) -> int:
        """How many seeds share p*'s pass over its test draws: as many as together take no more FLOPs than it does.

        A step holds all its models in memory, and is done again when a seed joins it.
        """
        if self.truth is None:
            return 1
        models = {one.model: self.architecture[one.role] for one in of_a_seed}
        candidates = sum(architecture.flops_per_token for architecture in models.values())
        return max(1, int(self.architecture["ground_truth"].flops_per_token / candidates))

    def scored(self, found: Sequence[_Drawn]) -> list[Measured]:
        """One pass over p*'s test draws scores them by all these candidates."""
        by_model: dict[Step, tuple[str, list[SamplingParameters]]] = {}
        for one in found:
            _, settings = by_model.setdefault(one.model, (one.role, []))
            if one.drawn_at not in settings:
                settings.append(one.drawn_at)
        others = [(role, model, settings) for model, (role, settings) in by_model.items()]
        number = self.config.ground_truth.num_eval
        truth = None if self.truth is None else ("ground_truth", self.truth, PLAIN)
        of_reference = self.score(truth, self.test, number, others, "score p*'s draws" if truth else "score the data")
        reference = [(truth[0], truth[1], [PLAIN])] if truth else []
        return [
            Measured(
                candidate=one.candidate,
                drawn_at=one.drawn_at,
                seed=one.seed,
                model=one.model,
                dtype=self.dtypes[one.role],
                draws=one.draws,
                number=one.number,
                scores=self.score(
                    (one.role, one.model, one.drawn_at), one.draws, one.number, reference, f"score {one.role}s' draws"
                ),
                of_reference=of_reference,
            )
            for one in found
        ]

    def imported(
        self, kind: StepKind[LlamaConfig, str], role: str, source: Source, inputs: dict[str, Step], stage: str
    ) -> Step:
        config = {"reference": "model", "sha256": source.identity, "vocabulary": self.config.ground_truth.vocabulary}
        return self.made(kind, role, config | {"dtype": self.dtypes[role]}, inputs, {"folder": source.folder}, stage)

    def made(
        self,
        kind: StepKind[LlamaConfig, str],
        role: str,
        config: dict[str, Any],
        inputs: dict[str, Step],
        local: dict[str, str],
        stage: str,
    ) -> Step:
        cost = kind.cost(self.architecture[role], self.dtypes[role])
        return self.step(kind, config, inputs, stage, cost, local=local)

    def step(
        self,
        kind: StepKind[...],
        config: dict[str, Any],
        inputs: dict[str, Step],
        stage: str,
        cost: Cost,
        **others: Any,
    ) -> Step:
        step = kind.step(config, inputs, stage, cost, **others)
        self.costs[step] = cost
        return step

    def draw(
        self, role: str, model: Step, key: Key, sampling: SamplingParameters, number: int, stage: str
    ) -> tuple[Step, ...]:
        config, truth = self.config, self.config.ground_truth
        tiles = []
        for tile in range(math.ceil(number / config.tile)):
            draws = min(config.tile, number - tile * config.tile)
            what = {
                "key": [key.seed, *key.path],
                "tile": tile,
                "first": tile * config.tile,
                "draws": draws,
                "slots": config.slots,
                "horizon": truth.horizon,
                "selectivity": sampling,
                "dtype": self.dtypes[role],
            }
            cost = DRAWS.cost(
                self.architecture[role],
                self.dtypes[role],
                draws=draws,
                horizon=truth.horizon,
                context=self.sources.prompts.longest,
                slots=config.slots,
            )
            tiles.append(
                self.step(DRAWS, what, {"model": model, "prompts": self.prompts}, stage, cost, needs=self.tile_needs)
            )
        return tuple(tiles)

    def learner(self, role: str, size: Any, data: tuple[Step, ...], number: int, key: Key, stage: str) -> Step:
        """The model that comes of training on the first `number` draws; with no epochs, the one that it starts from."""
        learner: Learner = self.learners[role]
        source: Source | None = getattr(self.sources, role)
        inputs = _numbered("data", data[: math.ceil(number / self.config.tile)]) | _numbered(
            "validation", self.validation
        )
        inputs |= {"tokenizer": self.tokens}
        what: dict[str, Any] = {"training": asdict(learner.training), "sequences": number, "key": [key.seed, *key.path]}
        if source is None:
            what |= {"size": asdict(size), "context": self.context}
        else:
            own = self.truth is None and role == "teacher"  # it is then where the tokenizer comes from
            start = (
                self.tokens
                if own
                else self.imported(MODEL, role, source, {"tokenizer": self.tokens}, f"prepare {role}s")
            )
            if not learner.training.epochs:
                return start
            inputs |= {"start": start}
        architecture = size.architecture(self.vocabulary, self.context) if source is None else self.architecture[role]
        cost = TRAINING.cost(
            architecture,
            learner.training,
            sequences=number,
            horizon=self.config.ground_truth.horizon,
            prompts=self.sources.prompts.number,
            prompt=self.sources.prompts.typical,
            held_out=self.config.ground_truth.num_validation,
        )
        processes, gpus = learner.training.processes, self.config.resources.train_gpus
        needs = Needs(processes=processes, gpus=max(gpus, processes) if gpus else 0)
        return self.step(TRAINING, what, inputs, stage, cost, needs=needs)

    def score(
        self,
        own: tuple[str, Step, SamplingParameters] | None,
        draws: tuple[Step, ...],
        number: int,
        others: Sequence[tuple[str, Step, Sequence[SamplingParameters]]],
        stage: str,
    ) -> tuple[Step, ...]:
        """The first `number` draws of `own` (data, where that is None), tile by tile, under it and the others at each
        of their settings."""
        steps, roles = [], [other for other, _, _ in others]
        whose: dict[str, Any] = {}
        inputs = _numbered("other", tuple(step for _, step, _ in others))
        if own is not None:
            role, model, sampling = own
            whose, inputs, roles = (
                {"own": {"selectivity": sampling, "dtype": self.dtypes[role]}},
                inputs | {"own": model},
                [role, *roles],
            )
        for tile, drawn in enumerate(draws[: math.ceil(number / self.config.tile)]):
            first = min(number - tile * self.config.tile, self.config.tile)
            what = {
                "first": first,
                **whose,
                "others": [
                    {"selectivities": list(settings), "dtype": self.dtypes[other]} for other, _, settings in others
                ],
            }
            cost = SCORES.cost(
                [(self.architecture[each], self.dtypes[each]) for each in roles],
                draws=first,
                horizon=self.config.ground_truth.horizon,
                prompts=self.sources.prompts.number,
                prompt=self.sources.prompts.typical,
                settings=sum(len(settings) for _, _, settings in others),
            )
            steps.append(self.step(SCORES, what, inputs | {"draws/0": drawn}, stage, cost, needs=self.tile_needs))
        return tuple(steps)


def _numbered(name: str, steps: tuple[Step, ...]) -> dict[str, Step]:
    return {f"{name}/{i}": step for i, step in enumerate(steps)}
