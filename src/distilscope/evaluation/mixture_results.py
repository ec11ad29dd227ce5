"""The records of what `distilscope mog` leaves: Gaussian mixtures, fitted, selected and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from distilscope.evaluation.documents import Number, Whole
from distilscope.evaluation.estimate import Estimate, Interval

Beta = Number | Literal["inf"]
"""The teacher's selectivity; JSON has no Infinity."""

Numbers = Sequence[Number]

Points = Sequence[Numbers]


class MixtureConfig(Struct, frozen=True, kw_only=True):
    """The simulation's settings."""

    betas: tuple[Beta, ...]
    seeds: Whole
    num_train: Whole
    num_distill: Whole
    teacher_components: Whole
    student_components: Whole
    dimension: Whole
    covariance: Literal["diag", "full"]
    n_init: Whole
    epsilon: Number
    exact: bool
    as_published: bool
    num_eval: Whole | None
    reg_covar: Number


class Method(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How expectations were taken: quadrature to a tolerance, or Monte Carlo over draws of each side."""

    name: Literal["quadrature", "monte carlo"]
    relative_tolerance: Number | None = None
    absolute_tolerance: Number | None = None
    num_eval: Whole | None = None


class Mixture(Struct, frozen=True, kw_only=True):
    """A Gaussian mixture: weights (k), means (k, d), covariances (k, d, d)."""

    weights: Numbers
    means: Points
    covariances: Sequence[Points]


class MixtureGroundTruth(Mixture, frozen=True, kw_only=True):
    entropy: Estimate


class MixtureTeacher(Struct, frozen=True, kw_only=True):
    seed: Whole
    beta: Beta
    weights: Numbers
    selected_weights: Numbers
    weight_entropy: Number
    entropy: Estimate
    precision: Estimate
    recall: Estimate
    difficulty: Whole


class MixtureStudent(Struct, frozen=True, kw_only=True):
    training: Literal["direct", "distilled"]
    beta: Beta | None
    """None for a direct student."""
    seed: Whole
    precision: Estimate
    recall: Estimate
    candidate_entropy: Estimate
    reference_entropy: Estimate
    kl_candidate_reference: Estimate
    kl_reference_candidate: Estimate
    delta_precision: Estimate
    delta_recall: Estimate


class DistilledMixture(Struct, frozen=True, kw_only=True):
    """A student, and what it was fitted on."""

    beta: Beta
    teacher_points: Points
    """Some draws of the selected teacher."""
    weights: Numbers
    means: Points
    covariances: Sequence[Points]


class FittedMixtures(Struct, frozen=True, kw_only=True):
    """What one seed fitted, and some of the draws it was fitted on: what the figures show."""

    seed: Whole
    points: Points
    direct: Mixture
    teacher: Mixture
    distilled: tuple[DistilledMixture, ...]


class Spread(Interval, frozen=True):
    """An interval over seeds, and the range of the seeds' values."""

    lowest: Number
    highest: Number

    @property
    def interval(self) -> Interval:
        """Without the range."""
        return Interval(self.mean, self.half_width, self.n)


class PublishedNumber(Struct, frozen=True, kw_only=True):
    """A number of the paper: published, as its steps give it here, and by its definition."""

    training: Literal["direct", "distilled"]
    beta: Beta | None
    quantity: Literal["precision", "recall"]
    published: Number | None
    as_published: Spread
    by_definition: Spread
    effect: Spread


class FitWarning(Struct, frozen=True, kw_only=True):
    """What EM had to say of a fit."""

    fit: str
    beta: Beta | None
    seed: Whole
    message: str


class MixtureResults(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of the results.json of `distilscope mog`."""

    schema_version: Literal[1]
    recipe: str
    unit: str
    config: MixtureConfig
    method: Method
    ground_truth: MixtureGroundTruth
    teacher: tuple[MixtureTeacher, ...]
    students: tuple[MixtureStudent, ...]
    mixtures: FittedMixtures
    as_published: tuple[PublishedNumber, ...] | None = None
    """Only of a simulation with `--as-published`."""
    warnings: tuple[FitWarning, ...]
