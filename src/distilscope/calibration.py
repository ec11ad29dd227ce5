"""How fast this machine is and how much sequences scatter, measured on the same study in miniature with the real models.

Two sizes are run in a folder that is thrown away afterwards, so that a step's fixed time (loading a model) is told from what grows with its
work. Both draw in batches smaller than the study's, which uses a processor less well: times come out too long rather than too short.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distilscope.distillation import Distillation, Study, Sweep
from distilscope.planning import plan
from distilscope.results import collect
from distilscope.runs.execute import Record, execute
from distilscope.runs.progress import Silence
from distilscope.runs.schedule import makespan
from distilscope.runs.step import Step, order
from distilscope.runs.store import Store
from distilscope.sources import Sources
from distilscope.work import KINDS, read_draws

LEAST_SCALING = 0.5
"""Share of a step's time, at least, that is taken to grow with its work: two noisy times must not say that work is free."""


@dataclass(frozen=True)
class Rate:
    """Seconds of a stage's step: `fixed` + `per_flop` * its predicted FLOPs."""

    fixed: float
    per_flop: float

    @classmethod
    def through(cls, small: tuple[float, float], large: tuple[float, float]) -> Rate:
        """From (FLOPs, seconds) of a smaller and a larger step of the same kind; without FLOPs, the larger one's time."""
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
    """By stage."""
    startup: float
    """Seconds until worker processes work."""
    precision_deviation: float | None
    """Standard deviation of a sequence's log p*, nats, as it enters a student's precision; None where there is none to be had."""
    recall_deviation: float | None
    """The same of log q over p*'s sequences, as it enters a recall."""
    seconds: float = 0.0
    """What the calibration itself took."""

    def predict(self, study: Study, workers: int) -> float:
        """Seconds that the whole study takes, nothing of it being in the store."""
        steps = order(study.targets)
        return self.startup + makespan(steps, {step: self._rate(step).seconds(step.cost) for step in steps}, workers)

    def _rate(self, step: Step) -> Rate:
        return self.rates.get(step.stage, Rate(0.0, 0.0))


def calibrate(config: Distillation, sources: Sources, *, workers: int) -> Calibration:
    """Runs the study twice at a few sequences, in seconds with a model of a hundred million weights. No number of it is kept."""
    began = time.monotonic()
    few = min(64, max(16, 512 // config.ground_truth.horizon))
    with tempfile.TemporaryDirectory(prefix="distilscope-") as folder:
        runs = []
        for number in (few, 3 * few):
            start, store = time.monotonic(), Store(Path(folder) / "store")
            study = plan(miniature(config, number), sources)
            records = execute(study.targets, store, work=KINDS, workers=workers, watch=Silence())
            runs.append((study, records, time.monotonic() - start))
        results = collect(runs[-1][0], store)
        own = _own_deviation(runs[-1][0], store)
    students = [*results["students"], *results["teacher"]]
    small, large = ({stage: _mean(study, records, stage) for stage in _stages(records)} for study, records, _ in runs)
    rates = {stage: Rate.through(small.get(stage, large[stage]), large[stage]) for stage in large}
    rates |= {stage: Rate(seconds, 0.0) for stage, (_, seconds) in small.items() if stage not in large}  # made once: it was there already
    study, records, wall = runs[0]
    seconds = {step.fingerprint: record.seconds for step, record in _pairs(study, records)}
    steps = [step for step, _ in _pairs(study, records)]
    busy = makespan(steps, {step: seconds[step.fingerprint] for step in steps}, workers)
    return Calibration(
        rates=rates,
        startup=max(0.0, wall - busy),
        precision_deviation=_deviation(students, "precision", own),
        recall_deviation=_deviation(students, "recall", own),
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


def _pairs(study: Study, records: Sequence[Record]) -> list[tuple[Step, Record]]:
    by_fingerprint = {record.fingerprint: record for record in records}
    return [(step, by_fingerprint[step.fingerprint]) for step in order(study.targets) if step.fingerprint in by_fingerprint]


def _stages(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record.stage for record in records))


def _mean(study: Study, records: Sequence[Record], stage: str) -> tuple[float, float]:
    """FLOPs and seconds of a step, averaged over a stage."""
    pairs = [(step.cost, record.seconds) for step, record in _pairs(study, records) if record.stage == stage]
    costs, seconds = zip(*pairs, strict=True)
    return sum(costs) / len(pairs), sum(seconds) / len(pairs)


def _own_deviation(study: Study, store: Store) -> float | None:
    """Of log p* over its own sequences, as they were drawn; None for data."""
    draws = read_draws({f"draws/{i}": store.path(step) for i, step in enumerate(study.test)}, "draws")
    return None if draws.log_prob is None else float(draws.sum_per_sequence(draws.log_prob).std(ddof=1))


def _deviation(records: Sequence[Mapping[str, Any]], quantity: str, own: float | None) -> float | None:
    """The largest among the models measured and p* itself, which a student comes to resemble.

    One that has barely been trained writes sequences that are all alike improbable: on a cut SmolLM2 they scattered half as much as
    those of students from scratch that were trained in full, and p*'s own as much.
    """
    found = [one[quantity]["stderr"] * math.sqrt(one[quantity]["n"]) for one in records if one[quantity]["stderr"] is not None]
    return max([*found, own] if found and own is not None else found, default=None)
