"""How fast this machine is and how much sequences scatter, measured on the same study in miniature with the real
models.

Two sizes are run in a folder that is thrown away afterwards, so that a step's fixed time (loading a model) is told from
what grows with its work. Both draw in batches smaller than the study's, which uses a processor less well: times come
out too long rather than too short. Trainings are repeated over their few sequences, since a library prepares code for
each shape that it meets first.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distilscope.evaluation.estimate import Estimate
from distilscope.pipeline.execute import StepTiming, execute
from distilscope.pipeline.progress import SilentWatcher
from distilscope.pipeline.schedule import makespan
from distilscope.pipeline.step import Step, order
from distilscope.pipeline.store import Store
from distilscope.studies.artifacts import read_draws
from distilscope.studies.collect import collect
from distilscope.studies.config import Distillation, Sweep
from distilscope.studies.inputs import Sources
from distilscope.studies.planner import plan
from distilscope.studies.steps.registry import KINDS, functions
from distilscope.studies.study import Study

LEAST_SCALING = 0.5
"""Share of a step's time, at least, that is taken to grow with its work: two noisy times must not say that work is
free."""


TRAINING_FLOPS, TRAINING_STEPS = 4e11, 128
"""What a training of the larger miniature takes at most, about: seconds on a core. Its first steps are slower than all
later ones."""


@dataclass(frozen=True)
class Rate:
    """Seconds of a step: `fixed` + `per_flop` * its predicted FLOPs."""

    fixed: float
    per_flop: float

    @classmethod
    def through(cls, small: tuple[float, float], large: tuple[float, float]) -> Rate:
        """From (FLOPs, seconds) of a smaller and a larger step of the same kind; without FLOPs, the larger one's
        time."""
        (less, quick), (more, slow) = small, large
        if not more > less:
            return cls(0.0, slow / more) if more else cls(slow, 0.0)
        per_flop = max((slow - quick) / (more - less), LEAST_SCALING * slow / more)
        return cls(max(0.0, slow - per_flop * more), per_flop)

    def seconds(self, flops: float) -> float:
        return self.fixed + self.per_flop * flops


@dataclass(frozen=True)
class Calibration:
    """What was measured."""

    rates: Mapping[str, Rate]
    """By what is done, as `work_of` names it."""
    startup: float
    """Seconds until worker processes work."""
    precision_deviation: float | None
    """Standard deviation of a sequence's log p*, nats, as it enters a student's precision; None where there is none to
    be had."""
    recall_deviation: float | None
    """The same of log q over p*'s sequences, as it enters a recall."""
    seconds: float = 0.0
    """What the calibration itself took."""

    def predict(self, study: Study, workers: int) -> float:
        """Seconds that the whole study takes, nothing of it being in the store."""
        steps = order(study.targets)
        return self.startup + makespan(steps, {step: self.step_seconds(step) for step in steps}, workers)

    def step_seconds(self, step: Step) -> float:
        """Of its worker."""
        return self.rates.get(work_of(step), Rate(0.0, 0.0)).seconds(step.cost)

    def as_json(self, study: Study, workers: int) -> dict[str, Any]:
        """What was measured, and the whole study's time by it."""
        rates = {work: {"seconds": rate.fixed, "seconds_per_flop": rate.per_flop} for work, rate in self.rates.items()}
        return {
            "seconds": self.seconds,
            "workers": workers,
            "rates": rates,
            "predicted_seconds": self.predict(study, workers),
        }


def work_of(step: Step) -> str:
    """A name that steps share which do the same, so that one of them is timed for all."""
    return KINDS[step.kind].rate_group(step)


def calibrate(config: Distillation, sources: Sources, *, workers: int, say: Callable[[str], object]) -> Calibration:
    """Runs the study twice at a few sequences, in seconds with a model of a hundred million weights. No number of it is
    kept.

    `say` hears that it begins, and that the machine is busy where it is.
    """
    if (load := os.getloadavg()[0]) > 1:
        say(
            f"distilscope: in the last minute {load:.1f} processes ran or waited for a core; what is measured beside "
            "others holds "
            "for such times at best, so measure on a machine at rest"
        )
    say("Measuring how fast this machine is, at a few sequences of each model ...")
    began = time.monotonic()
    few = min(64, max(16, 512 // config.ground_truth.horizon))
    with tempfile.TemporaryDirectory(prefix="distilscope-") as folder:
        runs = []
        for number, share in ((few, 1 / 3), (3 * few, 1.0)):
            start, store = time.monotonic(), Store(Path(folder) / "store")
            study = plan(lengthened(miniature(config, number), sources, share), sources)
            targets = [*study.targets, reference_scored(config, study, sources)]
            records = execute(targets, store, work=functions(), workers=workers, watch=SilentWatcher())
            runs.append((targets, records, time.monotonic() - start))
        results = collect(study, store)
        own = _own_deviation(study, store)
    students = [*results.students, *results.teacher]
    small, large = (_largest(targets, records) for targets, records, _ in runs)
    rates = {work: Rate.through(small.get(work, large[work]), large[work]) for work in large}
    rates |= {
        work: Rate(seconds, 0.0) for work, (_, seconds) in small.items() if work not in large
    }  # made once: it was there already
    targets, records, wall = runs[0]
    seconds = {step: record.seconds for step, record in _pairs(targets, records)}
    busy = makespan(list(seconds), seconds, workers)
    return Calibration(
        rates=rates,
        startup=max(0.0, wall - busy),
        precision_deviation=_deviation([one.precision for one in students], own),
        recall_deviation=_deviation([one.recall for one in students], own),
        seconds=time.monotonic() - began,
    )


def miniature(config: Distillation, number: int) -> Distillation:
    """The study at one seed, one setting of the teacher, and `number` sequences of everything."""
    truth = replace(config.ground_truth, num_train=number, num_validation=max(8, number // 4), num_eval=number)
    return replace(
        config,
        ground_truth=truth,
        teacher=replace(config.teacher, selectivity=()),
        temperatures=(1.0,),
        seeds=1,
        num_distill=0,
        num_teacher_eval=number,
        tile=number,
        slots=min(config.slots, number),
        sweep=Sweep(),
    )


def lengthened(config: Distillation, sources: Sources, share: float) -> Distillation:
    """The same with more epochs, and more looks: each model's training takes about that share of the above, or what it
    takes anyway."""
    study = plan(config, sources)
    changes = {}
    for role, measured in (("teacher", study.teachers[0]), ("student", study.students[0])):
        learner = getattr(config, role)
        training = learner.training
        if training.epochs:  # else it is kept as it is
            steps = training.steps(config.ground_truth.num_train)
            times = max(1, round(share * min(TRAINING_FLOPS / measured.model.cost, TRAINING_STEPS / steps)))
            longer = replace(training, epochs=training.epochs * times, evaluations=training.evaluations * times)
            changes[role] = replace(learner, training=longer)
    return replace(config, **changes)


def reference_scored(config: Distillation, study: Study, sources: Sources) -> Step:
    """p*'s test draws in a miniature, scored at all the settings and seeds of the study: each costs a softmax, of which
    FLOPs say nothing.

    Models of the miniature stand in for the study's, some for several, and are then computed once. Counts for a little
    more than the step of the miniature itself, whose place it takes.
    """
    sweep = Sweep(student_sizes=config.sweep.student_sizes)
    wider = replace(
        study.config, temperatures=config.temperatures, teacher=config.teacher, seeds=config.seeds, sweep=sweep
    )
    scoring, own = plan(wider, sources).students[0].of_reference[0], study.students[0].of_reference[0]
    alike = {step.stage: step for step in order([own])}
    inputs = {name: alike[source.stage] for name, source in scoring.inputs.items()}
    return Step(
        scoring.kind, scoring.config, inputs, scoring.code_version, scoring.stage, own.cost * (1 + 1e-9), own.tokens
    )


def _pairs(targets: Sequence[Step], records: Sequence[StepTiming]) -> list[tuple[Step, StepTiming]]:
    by_fingerprint = {record.fingerprint: record for record in records}
    return [(step, by_fingerprint[step.fingerprint]) for step in order(targets) if step.fingerprint in by_fingerprint]


def _largest(targets: Sequence[Step], records: Sequence[StepTiming]) -> dict[str, tuple[float, float]]:
    """FLOPs of the largest steps of each work, and their seconds, on average."""
    found: dict[str, dict[float, list[float]]] = {}
    for step, record in _pairs(targets, records):
        found.setdefault(work_of(step), {}).setdefault(step.cost, []).append(record.seconds)
    return {work: (cost, sum(times[cost]) / len(times[cost])) for work, times in found.items() for cost in [max(times)]}


def _own_deviation(study: Study, store: Store) -> float | None:
    """Of log p* over its own sequences, as they were drawn; None for data."""
    draws = read_draws({f"draws/{i}": store.path(step) for i, step in enumerate(study.test)}, "draws")
    return None if draws.log_prob is None else float(draws.sum_per_sequence(draws.log_prob).std(ddof=1))


def _deviation(estimates: Sequence[Estimate], own: float | None) -> float | None:
    """The largest among the models measured and p* itself, which a student comes to resemble.

    One that has barely been trained writes sequences that are all alike improbable: on a cut SmolLM2 they scattered
    half as much as those of students from scratch that were trained in full, and p*'s own as much.
    """
    found = [one.stderr * math.sqrt(one.n) for one in estimates if one.stderr is not None]
    return max([*found, own] if found and own is not None else found, default=None)
