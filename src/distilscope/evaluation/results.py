"""The records of results.json: what a study found, number by number.

Estimates are in the document's unit. A teacher, student or control has one record per seed; `candidate` says who it is,
the same for every seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from distilscope.evaluation.candidates import Candidate, SamplingParameters, Variant
from distilscope.evaluation.documents import Number, Whole
from distilscope.evaluation.estimate import Estimate, Interval

SCHEMA_VERSION = 1

T = TypeVar("T")

SamplerCheck = Number | str
"""z of the sampler check, or why there is none: "undecided", "not available"."""


class Sides(Struct, Generic[T], frozen=True, kw_only=True):
    """One thing of p*'s draws, and of the candidate's."""

    reference: T
    candidate: T


class PromptsSource(Struct, frozen=True, kw_only=True):
    sha256: str
    number: Whole
    longest: Whole


class DataSource(Struct, frozen=True, kw_only=True):
    sha256: str
    rows: Whole


class Sources(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the study was planned from, by content."""

    ground_truth: str | None = None
    """None where data is in its place."""
    teacher: str | None = None
    """None where it starts from scratch."""
    student: str | None = None
    prompts: PromptsSource
    data: DataSource | None = None


class GroundTruth(Struct, frozen=True, kw_only=True):
    """p*, or the data in its place, and how much of it was drawn."""

    reference: str
    description: str
    vocabulary: Whole
    dtype: str | None
    """None where p* is data."""
    prompt: str | None
    """None where there are several."""
    prompts: Whole
    horizon: Whole
    num_train: Whole
    num_validation: Whole
    num_eval: Whole
    entropy: Estimate
    mean_length: Estimate
    ended: Number
    sampler_check: SamplerCheck

    @property
    def name(self) -> str:
        """How p* is named wherever results are shown."""
        return self.description or f"{self.reference}, vocabulary of {self.vocabulary}"


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The step of a training whose weights were kept."""

    step: Whole
    held_out_loss: Number
    tokens: Whole
    """Trained on, repeats counted."""


class Teacher(Struct, frozen=True, kw_only=True):
    selectivity: SamplingParameters
    temperature: Number | None
    seed: Whole
    entropy: Estimate
    precision: Estimate
    recall: Estimate
    mean_length: Estimate
    sampler_check: SamplerCheck
    checkpoint: Checkpoint | None
    """None for a model that was not trained."""

    @property
    def candidate(self) -> Candidate:
        return Candidate("teacher", self.selectivity)

    @property
    def entropy_per_token(self) -> float:
        """The entropy per sequence over the mean length, nats; NaN where either is not finite."""
        mean, length = self.entropy.mean, self.mean_length.mean
        return math.nan if mean is None or not length else mean / length


class Student(Struct, frozen=True, kw_only=True):
    evaluation_selectivity: SamplingParameters | None = None
    """What a control is drawn at; None for students."""
    evaluation_temperature: Number | None = None
    training: Literal["direct", "distilled"]
    selectivity: SamplingParameters | None
    """The teacher's when it made D'; None for a direct student."""
    temperature: Number | None
    """Where that is a temperature and nothing else."""
    seed: Whole
    variant: Variant
    precision: Estimate
    recall: Estimate
    candidate_entropy: Estimate
    reference_entropy: Estimate
    kl_candidate_reference: Estimate
    kl_reference_candidate: Estimate
    delta_precision: Estimate
    delta_recall: Estimate
    mean_length: Sides[Estimate]
    ended: Sides[Number]
    sampler_check: Sides[SamplerCheck]
    checkpoint: Checkpoint | None

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.training, self.selectivity, variant=self.variant)

    def unwritten(self) -> tuple[str, ...]:
        """Fields that documents do not hold: those of a control."""
        return ("evaluation_selectivity", "evaluation_temperature")


class Control(Student, frozen=True, kw_only=True):
    """The direct student drawn at one of the teacher's settings."""

    evaluation_selectivity: SamplingParameters  # pyright: ignore[reportGeneralTypeIssues]
    evaluation_temperature: Number | None  # pyright: ignore[reportGeneralTypeIssues]

    def unwritten(self) -> tuple[str, ...]:
        return ()

    @property
    def candidate(self) -> Candidate:
        return Candidate("control", evaluation=self.evaluation_selectivity, variant=self.variant)


class TradeOff(Struct, frozen=True, kw_only=True):
    """Intersection-union test: precision falls *and* recall rises with training temperature, each at alpha = 0.05.

    The p-values are those of Page's trend test (one-sided); None where it cannot be made.
    """

    verdict: Literal["holds", "sharpening only", "not shown"]
    p_precision: Number | None
    p_recall: Number | None
    p_kl: Number | None
    """For KL(q||p) rising as temperature falls: sharpening that costs fidelity."""
    reason: str | None = None
    """Why the test cannot be made."""


class SweepVariant(Struct, frozen=True, kw_only=True):
    variant: Variant
    trade_off: TradeOff


class IdealRecall(Struct, frozen=True, kw_only=True):
    """A point of the ideal frontier, in nats per draw, and how many draws of p* carry it."""

    precision: Number
    recall: Number
    effective_sample_size: Number


class SettingGap(Struct, frozen=True, kw_only=True):
    """A setting's distance from the ideal frontier: ideal recall at its precision minus its recall."""

    setting: Candidate
    gap: Interval | None
    limited_by: str | None
    """"fidelity" or "selection"."""
    ideal_recall: Number | None
    reason: str | None
    """Why there is no gap."""


class ControlComparison(Struct, frozen=True, kw_only=True):
    """The distilled frontier against the direct student's, drawn at the same settings, at matched recall."""

    precision_difference: Interval | None
    recall_range: tuple[Number, Number] | None
    seeds: Whole
    verdict: str
    reason: str | None
    """Why there is no difference, or no interval."""


class Frontier(Struct, frozen=True, kw_only=True):
    ideal: tuple[IdealRecall, ...]
    """By rising precision."""
    efficiency_gap: tuple[SettingGap, ...]
    control: ControlComparison


class MatchedEntropy(Struct, frozen=True, kw_only=True):
    """A setting's student against the temperatures', at the same entropy of the teacher."""

    setting: Candidate
    teacher_entropy_per_token: Interval
    precision_difference: Interval | None
    recall_difference: Interval | None
    reason: str | None
    """Why there are no differences."""


class Alternative(Struct, frozen=True, kw_only=True):
    """A setting with its precision gain and recall loss over the direct student, in nats per draw; 95%, all of them at
    once."""

    setting: Candidate
    precision_gain: Interval
    recall_loss: Interval
    tied: bool
    """Not ruled out as the best."""


class Recommendation(Struct, frozen=True, kw_only=True):
    """The setting to use, or None where there is no clear winner, and how sure that is."""

    setting: Candidate | None
    tied: tuple[Candidate, ...]
    """Every setting that cannot be ruled out as the best, the recommended one included, best mean first."""
    reason: str
    max_recall_loss: Number | None = None
    precision_weight: Number | None = None
    precision_gain: Interval | None = None
    """Of the recommended setting."""
    recall_loss: Interval | None = None
    candidates: tuple[Alternative, ...] = ()
    """The direct student first; empty where nothing could be compared."""
    excluded: tuple[Candidate, ...] = ()
    """Settings with an infinite estimate, or without a student for some seed."""
    seeds: Whole = 0

    def unwritten(self) -> tuple[str, ...]:
        """Fields that documents do not hold: where nothing was compared, all that a comparison gives."""
        return () if self.candidates else self.__struct_fields__[3:]


class Results(Struct, frozen=True, kw_only=True):
    """All of results.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    recipe: str
    unit: str
    sources: Sources
    ground_truth: GroundTruth
    temperatures: tuple[Number, ...]
    evaluation_temperature: Number
    seeds: Annotated[int, msgspec.Meta(ge=1)]
    num_distill: Whole
    teacher: tuple[Teacher, ...]
    students: tuple[Student, ...]
    controls: tuple[Control, ...]
    trade_off: TradeOff
    sweep: tuple[SweepVariant, ...]
    """Each variant, the study's own first; empty where nothing was swept."""
    frontier: Frontier
    matched_entropy: tuple[MatchedEntropy, ...]
    recommendation: Recommendation

    @property
    def own_students(self) -> tuple[Student, ...]:
        """Without a sweep's other sizes and |D'|."""
        return tuple(student for student in self.students if not student.candidate.swept)

    @property
    def evaluated_at(self) -> SamplingParameters:
        """What students are drawn at, controls apart."""
        return SamplingParameters({"temperature": self.evaluation_temperature})

    @property
    def modelled(self) -> bool:
        """Whether p* is a model; of data there is no precision."""
        return self.ground_truth.dtype is not None


def by_candidate(records: Sequence[T]) -> dict[Candidate, list[T]]:
    """Records with a `candidate`, one list per candidate, in the candidates' order; seeds as they come."""
    found: dict[Candidate, list[T]] = {}
    for record in records:
        found.setdefault(record.candidate, []).append(record)  # pyright: ignore[reportAttributeAccessIssue]
    return dict(sorted(found.items(), key=lambda item: item[0].order))
