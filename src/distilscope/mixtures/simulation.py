"""The simulation of section 3.2 on mixtures: ground truth, teacher, selection, students, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distilscope.distribution import Key
from distilscope.evaluation.estimate import Estimate, t_interval
from distilscope.evaluation.mixture_results import (
    Beta,
    DistilledMixture,
    FittedMixtures,
    FitWarning,
    Method,
    Mixture,
    MixtureConfig,
    MixtureGroundTruth,
    MixtureResults,
    MixtureStudent,
    MixtureTeacher,
    PublishedNumber,
    Spread,
)
from distilscope.evaluation.precision_recall import PrecisionRecall, Scored, compare
from distilscope.evaluation.results import SCHEMA_VERSION
from distilscope.mixtures.config import DEFAULT_DRAWS, MogPaper, beta_as_json
from distilscope.mixtures.difficulty import difficulty
from distilscope.mixtures.em import REG_COVAR, Fit, fit
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.quadrature import ABSOLUTE, RELATIVE, exact_entropy, exact_precision_recalls
from distilscope.selectivity import Power
from distilscope.system.cpu_count import cpu_count
from distilscope.system.thread_pool import map_in_threads, one_thread

PUBLISHED_BETA = 100.0
PUBLISHED = {
    ("direct", "precision"): -20.26,
    ("direct", "recall"): -2.64,
    ("distilled", "precision"): -0.70,
    ("distilled", "recall"): -42.45,
}
"""Section 3.2 of Cha & Cho (arXiv 2505.13111), nats per draw."""
PUBLISHED_DRAWS = 2000
"""Draws of a student that the released notebook averages for its precision."""

_MOST_POINTS = 300
"""Draws of each kind kept in the results for the figures."""


def simulate(config: MogPaper) -> MixtureResults:
    """Everything `distilscope mog` knows: a function of the configuration alone, byte for byte."""
    with one_thread():
        evaluation = _Evaluation(config)
        runs = [Repetition(config, seed) for seed in range(config.seeds)]
        teacher = chain.from_iterable(map_in_threads(partial(_teacher_records, evaluation), runs, cpu_count()))
        students = chain.from_iterable(map_in_threads(partial(_student_records, evaluation), runs, cpu_count()))
        return MixtureResults(
            schema_version=SCHEMA_VERSION,
            recipe="mog_paper",
            unit="nats per draw",
            config=MixtureConfig(**config.as_json(), reg_covar=REG_COVAR),
            method=evaluation.method(),
            ground_truth=MixtureGroundTruth(
                **evaluation.ground_truth.as_json(), entropy=evaluation.ground_truth_entropy()
            ),
            teacher=tuple(teacher),
            students=tuple(students),
            mixtures=_mixtures(runs[0]),
            as_published=_as_published(evaluation, runs) if config.as_published else None,
            warnings=tuple(warning for run in runs for warning in run.warnings()),
        )


class Repetition:
    """One seed: D, the teacher and the direct student fitted on it, and a distilled student for each beta."""

    def __init__(self, config: MogPaper, seed: int) -> None:
        self.config, self.seed = config, seed
        self._key = Key(seed, ("mog_paper",))
        self._distilled: dict[float, Fit] = {}

    @cached_property
    def points(self) -> Float[Tensor, "n d"]:
        """D: the draws of p* for training."""
        return self.config.ground_truth().sample(self.config.num_train, self.key("D"))

    @cached_property
    def teacher(self) -> Fit:
        return self._fit(self.points, self.config.teacher_components, self.key("teacher"))

    @cached_property
    def direct(self) -> Fit:
        return self._fit(self.points, self.config.student_components, self.key("direct"))

    def selected_teacher(self, beta: float) -> GaussianMixture:
        return self.teacher.mixture.select(Power(beta))

    def selected_points(self, beta: float) -> Float[Tensor, "n d"]:
        """D': draws of the selected teacher, for training."""
        return self.selected_teacher(beta).sample(self.config.num_distill, self.key("D'", beta))

    def student(self, beta: float | None) -> Fit:
        """The distilled student of a beta; the direct student if beta is None."""
        if beta is None:
            return self.direct
        if beta not in self._distilled:
            self._distilled[beta] = self._fit(
                self.selected_points(beta), self.config.student_components, self.key("distilled", beta)
            )
        return self._distilled[beta]

    def warnings(self) -> list[FitWarning]:
        """What EM had to say, fit by fit."""
        fits: list[tuple[str, Beta | None, Fit]] = [("teacher", None, self.teacher), ("direct", None, self.direct)]
        for beta, result in self._distilled.items():
            fits.append(("distilled", beta_as_json(beta), result))
        return [
            FitWarning(fit=name, beta=beta, seed=self.seed, message=text)
            for name, beta, result in fits
            for text in result.warnings
        ]

    def key(self, *names: str | float) -> Key:
        """The random key of one use in this seed."""
        # A float goes into the key as its repr: infinity is no JSON number, and 1 and 1.0 must give one key.
        return self._key.child(*(repr(name) if isinstance(name, float) else name for name in names))

    def _fit(self, points: Tensor, components: int, key: Key) -> Fit:
        return fit(points, components=components, key=key, covariance=self.config.covariance, n_init=self.config.n_init)


@dataclass(frozen=True)
class _Evaluation:
    """Precision and recall against p*, by quadrature or from draws."""

    config: MogPaper

    @cached_property
    def ground_truth(self) -> GaussianMixture:
        return self.config.ground_truth()

    @property
    def _num_draws(self) -> int:
        return self.config.num_eval or DEFAULT_DRAWS

    @cached_property
    def _test_draws(self) -> Float[Tensor, "n d"]:
        """Draws of p* for the recall of every student; independent of every seed's D."""
        return self.ground_truth.sample(self._num_draws, Key(0, ("mog_paper", "test")))

    def method(self) -> Method:
        if self.config.uses_quadrature:
            return Method(name="quadrature", relative_tolerance=RELATIVE, absolute_tolerance=ABSOLUTE)
        return Method(name="monte carlo", num_eval=self._num_draws)

    def ground_truth_entropy(self) -> Estimate:
        if self.config.uses_quadrature:
            return Estimate.exact(exact_entropy(self.ground_truth))
        return Estimate.of(-self.ground_truth.log_prob(self._test_draws).numpy())

    def measure(self, candidate: GaussianMixture, key: Key) -> PrecisionRecall:
        return self.measure_each([candidate], [key])[0]

    def measure_each(self, candidates: list[GaussianMixture], keys: list[Key]) -> list[PrecisionRecall]:
        """Precision and recall of candidates that differ in their weights alone."""
        if self.config.uses_quadrature:
            return exact_precision_recalls(reference=self.ground_truth, candidates=candidates)
        return [self._compare(*each) for each in zip(candidates, keys, strict=True)]

    def _compare(self, candidate: GaussianMixture, key: Key) -> PrecisionRecall:
        def scored(own: GaussianMixture, other: GaussianMixture, draws: Tensor) -> Scored:
            return Scored(own.log_prob(draws).numpy(), other.log_prob(draws).numpy())

        return compare(
            candidate=scored(candidate, self.ground_truth, candidate.sample(self._num_draws, key)),
            reference=scored(self.ground_truth, candidate, self._test_draws),
        )

    def student(self, run: Repetition, beta: float | None) -> PrecisionRecall:
        return self.measure(run.student(beta).mixture, run.key("evaluate", "direct" if beta is None else beta))

    def record(self, run: Repetition, beta: float | None) -> MixtureStudent:
        return MixtureStudent(
            training="direct" if beta is None else "distilled",
            beta=None if beta is None else beta_as_json(beta),
            seed=run.seed,
            **self.student(run, beta).quantities(),
        )


def _teacher_records(evaluation: _Evaluation, run: Repetition) -> list[MixtureTeacher]:
    betas, mixture = run.config.betas, run.teacher.mixture
    selections = [run.selected_teacher(beta) for beta in betas]
    measured = evaluation.measure_each(selections, [run.key("evaluate teacher", beta) for beta in betas])
    return [
        MixtureTeacher(
            seed=run.seed,
            beta=beta_as_json(beta),
            weights=mixture.weights.tolist(),
            selected_weights=selected.weights.tolist(),
            weight_entropy=selected.weight_entropy,
            entropy=found.candidate_entropy,
            precision=found.precision,
            recall=found.recall,
            difficulty=difficulty(
                ground_truth=evaluation.ground_truth,
                teacher=mixture,
                by=Power(beta),
                student_components=run.config.student_components,
                epsilon=run.config.epsilon,
            ),
        )
        for beta, selected, found in zip(betas, selections, measured, strict=True)
    ]


def _student_records(evaluation: _Evaluation, run: Repetition) -> list[MixtureStudent]:
    return [evaluation.record(run, beta) for beta in (None, *run.config.betas)]


def _mixtures(run: Repetition) -> FittedMixtures:
    """The fitted mixtures of one seed, and some of the draws they were fitted on: what the figures show."""
    return FittedMixtures(
        seed=run.seed,
        points=run.points[:_MOST_POINTS].tolist(),
        direct=Mixture(**run.direct.mixture.as_json()),
        teacher=Mixture(**run.teacher.mixture.as_json()),
        distilled=tuple(
            DistilledMixture(
                beta=beta_as_json(beta),
                teacher_points=run.selected_points(beta)[:_MOST_POINTS].tolist(),
                **run.student(beta).mixture.as_json(),
            )
            for beta in run.config.betas
        ),
    )


def _as_published(evaluation: _Evaluation, runs: list[Repetition]) -> tuple[PublishedNumber, ...]:
    """Published | as published here | by definition, at the paper's beta = 100, means over seeds.

    The released notebook scores the students' draws with the variable that once held p*; by then it holds the
    teacher with modulated weights. So its "precision" is E_p''[log p'(x; beta = 100)], over 2000 draws, of the direct
    student too. Its recall is the mean over the run's own draws of p*, here the training points D.
    """
    rows = []
    trainings: tuple[tuple[Literal["direct", "distilled"], float | None], ...]
    trainings = (("direct", None), ("distilled", PUBLISHED_BETA))
    for training, beta in trainings:
        measured = [evaluation.student(run, beta) for run in runs]
        notebook: dict[Literal["precision", "recall"], list[float]] = {"precision": [], "recall": []}
        for run in runs:
            student = run.student(beta).mixture
            draws = student.sample(PUBLISHED_DRAWS, run.key("notebook", training))
            notebook["precision"].append(_mean(run.selected_teacher(PUBLISHED_BETA).log_prob(draws)))
            notebook["recall"].append(_mean(student.log_prob(run.points)))
        for quantity, values in notebook.items():
            definition = [getattr(each, quantity).mean for each in measured]
            rows.append(
                PublishedNumber(
                    training=training,
                    beta=None if beta is None else beta_as_json(beta),
                    quantity=quantity,
                    published=PUBLISHED[training, quantity] if evaluation.config.is_published_setting else None,
                    as_published=_over_seeds(values),
                    by_definition=_over_seeds(definition),
                    effect=_over_seeds([wrong - right for wrong, right in zip(values, definition, strict=True)]),
                )
            )
    return tuple(rows)


def _mean(values: Tensor) -> float:
    return float(np.mean(values.numpy()))


def _over_seeds(values: list[float]) -> Spread:
    found = t_interval(values)
    return Spread(found.mean, found.half_width, found.n, lowest=min(values), highest=max(values))
