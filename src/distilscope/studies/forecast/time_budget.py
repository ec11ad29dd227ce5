"""A study that fits into so many minutes: sizes chosen from measured rates, and what differences they can show.

What is promised is the half-width of a 95% t-interval for the difference between two students. Assumptions, said with
the result: a trained student's sequences scatter as those of the calibration and of p* did; two students' draws are
independent; and training with another seed adds little to that. All seeds score the same draws of p*, so more seeds
narrow precision, not recall.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError
from distilscope.studies.config import Distillation
from distilscope.studies.forecast.calibration import Calibration, calibrate
from distilscope.studies.inputs import Sources
from distilscope.studies.overrides import as_settings
from distilscope.studies.planner import plan
from distilscope.studies.preflight import require_ready
from distilscope.studies.run import output_folder
from distilscope.system.cpu_count import worker_count
from distilscope.system.json_files import write_json

LEAST = {"num_train": 128, "num_eval": 64, "seeds": 2}
"""The smallest study whose numbers mean something: fewer sequences train nothing, and one seed has no interval."""

MOST_DOUBLINGS = 6
"""The largest study offered has the recipe's own sequences doubled so often."""

FILE = "budget.json"

ASSUMED = "assuming that a trained student's sequences scatter as in the calibration, and that another seed adds little"


@dataclass(frozen=True)
class Chosen:
    """The sizes, how long they take, and what they show."""

    num_train: int
    num_validation: int
    num_eval: int
    seeds: int
    predicted_minutes: float
    """The calibration included."""
    smallest_precision: float | None
    """The smallest difference between two students that would be shown, nats per sequence; None where it cannot be
    said."""
    smallest_recall: float | None

    def applied(self, config: Distillation) -> Distillation:
        truth = replace(
            config.ground_truth, num_train=self.num_train, num_validation=self.num_validation, num_eval=self.num_eval
        )
        return replace(config, ground_truth=truth, seeds=self.seeds)

    def said(self, minutes: float) -> str:
        shown = {"precision": self.smallest_precision, "recall": self.smallest_recall}
        parts = [f"{value:.2g} nats of {name}" for name, value in shown.items() if value is not None]
        power = (
            f"It would show a difference between two students of {' and '.join(parts)} ({ASSUMED})."
            if parts
            else "What difference it would show cannot be said."
        )
        return (
            f"Within {minutes:g} minutes: num_train {self.num_train:,}, num_validation {self.num_validation:,}, "
            f"num_eval {self.num_eval:,}, {self.seeds} seeds; about {self.predicted_minutes:.1f} minutes. {power}"
        )


def fit(
    config: Distillation,
    minutes: float,
    *,
    fixed: Collection[str],
    output_dir: str | None,
    workers: int | None,
    say: Callable[[str], object],
) -> Distillation:
    """The configuration with sizes that fit; `say` hears what was chosen. `fixed` names settings, by place, that were
    given and stay.

    A run folder keeps its choice: the same settings with the same budget give the same sizes again, without measuring.
    Raises UsageError where even the smallest sensible study takes longer.
    """
    if not 0 < minutes < math.inf:
        raise UsageError(f"--budget is {minutes}, but must be a finite number of minutes above 0")
    folder = output_folder(config, output_dir)
    earlier = _earlier(folder / FILE, config, minutes, fixed)
    if earlier is not None:
        say(f"{earlier.said(minutes)} (Chosen when this run began.)")
        return earlier.applied(config)
    sources = Sources.locate(config)
    candidates = [one for one in ladder(config, fixed) if sources.data is None or fits_data(one, sources.data.rows)]
    if not candidates and sources.data:
        sources.data.require(next(ladder(config, fixed)).ground_truth)
    require_ready(candidates[0], sources)
    slots = worker_count(workers)
    measured = calibrate(config, sources, workers=slots, say=say)
    chosen = choose(candidates, minutes, measured, predict=lambda one: measured.predict(plan(one, sources), slots))
    record = {
        "schema_version": 1,
        "minutes": minutes,
        "given": _given(config),
        "fixed": sorted(fixed),
        "chosen": asdict(chosen),
    }
    write_json(folder / FILE, record)
    say(chosen.said(minutes))
    return chosen.applied(config)


def ladder(config: Distillation, fixed: Collection[str] = ()) -> Iterator[Distillation]:
    """The study at rising sizes, as far as `fixed` leaves them open.

    The smallest at 2 seeds, then at 3 (the quantile of t falls from 12.7 to 4.3, which no number of sequences makes up
    for); then more sequences, about 1.4 times as many each time, up to the study's own; then its other seeds; then more
    sequences again.
    """
    truth, before = config.ground_truth, None
    if config.num_distill or config.sweep.num_distill:  # these are stated relative to num_train
        fixed = {*fixed, "ground_truth.num_train", "ground_truth.num_validation"}
    share = truth.num_validation / truth.num_train
    for scale, seeds in _rungs(config.seeds):
        num_train, num_eval = (_scaled(getattr(truth, name), scale, LEAST[name]) for name in ("num_train", "num_eval"))
        sizes = {"num_train": num_train, "num_validation": max(1, round(num_train * share)), "num_eval": num_eval}
        open_ones = {name: value for name, value in sizes.items() if f"ground_truth.{name}" not in fixed}
        found = replace(
            config, ground_truth=replace(truth, **open_ones), seeds=config.seeds if "seeds" in fixed else seeds
        )
        if found != before:
            yield found
        before = found


def _rungs(seeds: int) -> Iterator[tuple[float, int]]:
    """Scales of the sequences, and seeds."""
    few = max(LEAST["seeds"], min(3, seeds))
    yield from ((0.0, number) for number in range(LEAST["seeds"], few + 1))
    yield from ((2 ** (power / 2), few) for power in range(-24, 1))
    yield from ((1.0, number) for number in range(few + 1, seeds + 1))
    yield from ((2 ** (power / 2), max(few, seeds)) for power in range(1, 2 * MOST_DOUBLINGS + 1))


def _scaled(value: int, scale: float, least: int) -> int:
    """Never below `least`."""
    return max(least, round(value * scale))


def fits_data(config: Distillation, rows: int) -> bool:
    truth = config.ground_truth
    return truth.num_train + truth.num_validation + truth.num_eval <= rows


def choose(
    candidates: list[Distillation], minutes: float, measured: Calibration, *, predict: Callable[[Distillation], float]
) -> Chosen:
    """The largest of the candidates (rising) whose predicted seconds fit, the calibration's own counted."""

    def needs(one: Distillation) -> float:
        return (measured.seconds + predict(one)) / 60

    least = needs(candidates[0])
    if least > minutes:
        truth = candidates[0].ground_truth
        raise UsageError(
            f"--budget is {minutes:g} minutes, but the smallest sensible study (num_train {truth.num_train:,}, "
            "num_eval "
            f"{truth.num_eval:,}, {candidates[0].seeds} seeds) needs about {least:.1f} on this machine; give at least "
            f"{math.ceil(least)}, a shorter horizon or fewer temperatures"
        )
    best = candidates[0], least
    for one in candidates[1:]:
        needed = needs(one)
        if needed > minutes:
            break
        best = one, needed
    config, needed = best
    truth = config.ground_truth
    precision, recall = smallest_differences(measured, num_eval=truth.num_eval, seeds=config.seeds)
    return Chosen(truth.num_train, truth.num_validation, truth.num_eval, config.seeds, needed, precision, recall)


def smallest_differences(measured: Calibration, *, num_eval: int, seeds: int) -> tuple[float | None, float | None]:
    """Half-widths of 95% t-intervals for a difference in P and in R, nats per sequence.

    P: each seed's two students are drawn apart, so sd sqrt(2 / num_eval) per seed, df = seeds - 1. R: one set of p*'s
    draws serves all seeds, so their error is not averaged, df = num_eval - 1; that two students score the same draws
    makes it less than this.
    """
    from scipy import stats

    def half_width(deviation: float | None, df: int, of_one: float) -> float | None:
        return None if deviation is None or df < 1 else float(stats.t.ppf(0.975, df)) * deviation * of_one

    once = math.sqrt(2 / num_eval)
    precision = half_width(measured.precision_deviation, seeds - 1, once / math.sqrt(seeds))
    return precision, half_width(measured.recall_deviation, num_eval - 1, once)


def _earlier(path: Path, config: Distillation, minutes: float, fixed: Collection[str]) -> Chosen | None:
    """The choice that a run folder holds, where it was made for these settings and this budget."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        given = (record["minutes"], record["given"], record["fixed"])
        return Chosen(**record["chosen"]) if given == (minutes, _given(config), sorted(fixed)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none there, or none that can be read: it is chosen again


def _given(config: Distillation) -> dict[str, Any]:
    """The settings that decide what is computed."""
    return {name: value for name, value in as_settings(config).items() if name != "resources"}
