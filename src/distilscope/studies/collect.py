"""Reads a finished study's artifacts, lets every number through its gates, and writes results.json's document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int

from distilscope.evaluation.documents import record_of
from distilscope.evaluation.estimate import NOT_AVAILABLE, Estimate
from distilscope.evaluation.frontier import study_frontier
from distilscope.evaluation.matched_entropy import matched_entropy
from distilscope.evaluation.precision_recall import PrecisionRecall, compare, expectation
from distilscope.evaluation.recall_only import NO_RECOMMENDATION, NO_TRADE_OFF, no_frontier, recall_alone
from distilscope.evaluation.recommendation import study_recommendation
from distilscope.evaluation.results import (
    Checkpoint,
    Control,
    GroundTruth,
    Results,
    Sides,
    Sources,
    Student,
    Teacher,
    TradeOff,
)
from distilscope.evaluation.trade_off import sweep, trade_off
from distilscope.lm.sequences import Sequences
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.artifacts import read_draws, read_other_scores, read_own_scores
from distilscope.studies.gated_scores import Tally
from distilscope.studies.study import Measured, Study

S = TypeVar("S", bound=Student)


@dataclass(frozen=True)
class Lengths:
    """What of p*'s test draws is said beside every candidate."""

    lengths: Int[np.ndarray, " n"]
    ended: Bool[np.ndarray, " n"]
    vocabulary: int


def collect(study: Study, store: Store) -> Results:
    """The study's results: no time, path, host or engine in them. Raises GateError where a gate does not pass."""
    return _Collector(study, store).results()


class _Collector:
    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.sound: dict[Step, Path] = {}
        self.clustered = study.sources["prompts"]["number"] > 1
        self.dtype: str | None = study.ground_truth.config["dtype"] if study.ground_truth else None
        self.test = self._test_draws()
        first = next(study.measured())
        self.reference = self._reference(first) if self.dtype else None
        self.reference_check: float | str = self.reference.z() if self.reference else "not available"

    def results(self) -> Results:
        config = self.study.config
        teachers = tuple(self._teacher(measured) for measured in self.study.teachers)
        students = tuple(self._student(measured) for measured in self.study.students)
        controls = tuple(self._control(measured) for measured in self.study.controls)
        own = [student for student in students if not student.candidate.swept]
        log_p = self.reference.scored().own if self.reference else None
        return Results(
            recipe=config.recipe,
            unit="nats per sequence",
            sources=record_of(self.study.sources, Sources),
            ground_truth=self._ground_truth(),
            temperatures=tuple(config.temperatures),
            evaluation_temperature=config.evaluation_temperature,
            seeds=config.seeds,
            num_distill=config.distil_draws,
            teacher=teachers,
            students=students,
            controls=controls,
            trade_off=self._trade_off(own),
            sweep=sweep(students, self._trade_off),
            frontier=no_frontier(config.seeds) if log_p is None else study_frontier(own, controls, log_p),
            matched_entropy=() if log_p is None else matched_entropy(teachers, own),
            recommendation=NO_RECOMMENDATION if log_p is None else study_recommendation(own),
        )

    def _ground_truth(self) -> GroundTruth:
        truth, prompts = self.study.config.ground_truth, self.study.sources["prompts"]["number"]
        return GroundTruth(
            reference=truth.name,
            description=truth.about,
            vocabulary=self.test.vocabulary,
            dtype=self.dtype,
            prompt=None if truth.prompts or prompts > 1 else truth.prompt,
            prompts=prompts,
            horizon=truth.horizon,
            num_train=truth.num_train,
            num_validation=truth.num_validation,
            num_eval=truth.num_eval,
            entropy=self.reference.alone().entropy if self.reference else NOT_AVAILABLE,
            mean_length=Estimate.of(self.test.lengths),
            ended=float(self.test.ended.mean()),
            sampler_check=self.reference_check,
        )

    def _teacher(self, measured: Measured) -> Teacher:
        estimates, draws, z = self._compare(measured)
        return Teacher(
            selectivity=measured.drawn_at,
            temperature=measured.drawn_at.temperature,
            seed=measured.seed,
            entropy=estimates.candidate_entropy,
            precision=estimates.precision,
            recall=estimates.recall,
            mean_length=Estimate.of(draws.lengths),
            sampler_check=z,
            checkpoint=self._checkpoint(measured.model),
        )

    def _student(self, measured: Measured) -> Student:
        return self._of_student(measured, Student)

    def _control(self, measured: Measured) -> Control:
        at = measured.drawn_at
        return self._of_student(
            measured, partial(Control, evaluation_selectivity=at, evaluation_temperature=at.temperature)
        )

    def _of_student(self, measured: Measured, record: Callable[..., S]) -> S:
        estimates, draws, z = self._compare(measured)
        candidate = measured.candidate
        return record(
            training="distilled" if candidate.role == "distilled" else "direct",
            selectivity=candidate.setting,
            temperature=candidate.setting.temperature if candidate.setting else None,
            seed=measured.seed,
            variant=candidate.variant,
            **estimates.quantities(),
            mean_length=Sides(reference=Estimate.of(self.test.lengths), candidate=Estimate.of(draws.lengths)),
            ended=Sides(reference=float(self.test.ended.mean()), candidate=float(draws.ended.mean())),
            sampler_check=Sides(reference=self.reference_check, candidate=z),
            checkpoint=self._checkpoint(measured.model),
        )

    def _compare(self, measured: Measured) -> tuple[PrecisionRecall, Tally, float | str]:
        candidate = self._tally(
            measured.draws,
            measured.scores,
            self.study.place_of_reference if self.reference else None,
            dtype=measured.dtype,
            whose=_whose(measured),
        )
        z = candidate.z()
        if self.reference is None:
            return (
                recall_alone(recall=self._recall(measured), candidate_entropy=candidate.alone().entropy),
                candidate,
                z,
            )
        return compare(candidate=candidate.scored(), reference=self._reference(measured).scored()), candidate, z

    def _reference(self, measured: Measured) -> Tally:
        """p*'s test draws under p* and under a candidate."""
        assert self.dtype is not None
        return self._tally(self.study.test, measured.of_reference, measured.place_among, dtype=self.dtype, whose="p*")

    def _tally(
        self,
        draws: Sequence[Step],
        scores: Sequence[Step],
        place: Callable[[Step], int] | None,
        *,
        dtype: str,
        whose: str,
    ) -> Tally:
        """Draws that were scored, tile by tile, through both gates; `place` finds the other side among those that a
        tile was scored by."""
        tally = Tally(dtype=dtype, whose=whose, clustered=self.clustered)
        for drawn, scored in zip(draws, scores, strict=False):  # of D' only the first tiles are scored
            folder = self._sound(scored)
            other = None if place is None else read_other_scores(folder, place(scored))
            tally.add(self._tile(drawn, scored.config["first"]), read_own_scores(folder), other)
        return tally

    def _recall(self, measured: Measured) -> Estimate:
        """Of data, which nothing drew: the mean of the candidate's log-probabilities."""
        totals, prompt_of = [], []
        for drawn, scored in zip(self.study.test, measured.of_reference, strict=True):
            tile = self._tile(drawn, scored.config["first"])
            scores = read_other_scores(self._sound(scored), measured.place_among(scored))
            totals.append(tile.sum_per_sequence(scores.log_prob))
            prompt_of.append(tile.prompt_of)
        return expectation(np.concatenate(totals), clusters=np.concatenate(prompt_of) if self.clustered else None)

    def _tile(self, drawn: Step, first: int) -> Sequences:
        draws = read_draws({"draws/0": self._sound(drawn)}, "draws")
        return draws.take(np.arange(min(len(draws), first)))

    def _sound(self, step: Step) -> Path:
        """The artifact's folder, hashed again before its first number is read."""
        if step not in self.sound:
            self.sound[step] = self.store.sound(step)
        return self.sound[step]

    def _test_draws(self) -> Lengths:
        tiles = [self._tile(step, self.study.config.tile) for step in self.study.test]
        lengths, ended = (np.concatenate([getattr(tile, name) for tile in tiles]) for name in ("lengths", "ended"))
        return Lengths(lengths, ended, tiles[0].vocabulary)

    def _checkpoint(self, model: Step) -> Checkpoint | None:
        """None for a model that was not trained."""
        counts = self.store.manifest(model)["counts"]
        if "chosen_step" not in counts:
            return None
        return Checkpoint(step=counts["chosen_step"], held_out_loss=counts["held_out_loss"], tokens=counts["tokens"])

    def _trade_off(self, students: Sequence[Student]) -> TradeOff:
        if self.reference is None:
            return NO_TRADE_OFF
        temperatures, seeds = self.study.config.temperatures, range(self.study.config.seeds)
        found = {(one.seed, one.temperature): one for one in students if one.training == "distilled"}

        def table(quantity: Callable[[Student], Estimate]) -> np.ndarray:
            rows = [[quantity(found[seed, tau]).mean for tau in temperatures] for seed in seeds]
            return np.array(rows, dtype=np.float64)  # an infinite estimate (None) becomes NaN

        return trade_off(
            temperatures=temperatures,
            precision=table(lambda one: one.precision),
            recall=table(lambda one: one.recall),
            kl=table(lambda one: one.kl_candidate_reference),
        )


def _whose(measured: Measured) -> str:
    """Whose draws these are, as a gate's message names them."""
    candidate = measured.candidate
    training = "direct" if candidate.role == "control" else candidate.role
    learnt = candidate.setting.phrase if candidate.setting else training
    return f"the {training} model ({learnt}, seed {measured.seed}) drawn at {measured.drawn_at.phrase}"
