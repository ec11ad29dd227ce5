"""The records of what a report shows beyond results.json: what could still be read of a run's artifacts."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from distilscope.evaluation.candidates import Candidate

T = TypeVar("T")

Numbers = tuple[float | None, ...]
"""None for what is infinite, or cannot be had."""


class Missing(Struct, frozen=True):
    """In place of a part that cannot be read; `reason` completes the sentence `not shown: …`."""

    reason: str


class Histogram(Struct, frozen=True, kw_only=True):
    """Draws per bin."""

    counts: tuple[int, ...]
    n: int
    """All draws, those of probability 0 included."""
    infinite: int
    """Draws of probability 0, which no bin holds."""


class StudentHistograms(Struct, frozen=True, kw_only=True):
    candidate: Candidate
    under_reference: Histogram | None
    """The student's draws under p*; None where p* is data."""
    of_reference: Histogram | None
    """p*'s draws under the student."""


class LogProbabilities(Struct, frozen=True, kw_only=True):
    """Log-probabilities per sequence, nats, all seeds together, in bins with the same edges."""

    edges: tuple[float, ...]
    reference: Histogram | None
    """p*'s own draws under p*; None where p* is data."""
    groups: tuple[StudentHistograms, ...]


class StudentPositions(Struct, frozen=True, kw_only=True):
    candidate: Candidate
    of_reference: Numbers | None
    """Of p*'s draws under the student."""
    under_reference: Numbers | None
    """Of the student's draws under p*; None where p* is data."""


class Positions(Struct, frozen=True, kw_only=True):
    """Mean loss by position in the sequence, nats per token, over the sequences that reach it and all seeds."""

    reached: tuple[int, ...]
    """Test draws of p* that reach each position."""
    reference: Numbers | None
    """Of p*'s own draws under p*; None where p* is data."""
    groups: tuple[StudentPositions, ...]


class TrainingEvaluation(Struct, frozen=True, kw_only=True):
    """A point of a training curve, nats per token."""

    step: int
    training_loss: float
    """Mean since the evaluation before."""
    held_out_loss: float


class TrainingCurve(Struct, frozen=True, kw_only=True):
    candidate: Candidate
    """A teacher's has no setting: it is trained once for all of them."""
    seed: int
    history: tuple[TrainingEvaluation, ...]
    chosen_step: int
    """Whose weights were kept."""


class SampleText(Struct, frozen=True, kw_only=True):
    text: str
    tokens: int
    ended: bool


class SampleColumn(Struct, frozen=True, kw_only=True):
    """The first draws of one candidate, or of p*."""

    candidate: Candidate
    texts: tuple[SampleText, ...]
    prompts: tuple[str, ...] | None
    """The prompt of each text; None where there is one for all."""
    surprise: Numbers | None
    """Of each text: its log-probability under what drew it less that under p*, nats. None for p*'s own column, whose
    surprise depends on the student (`Samples.surprise_of_reference`)."""


class Samples(Struct, frozen=True, kw_only=True):
    """Texts of seed 0, row by row. Rows of the teacher's columns share random numbers, and so do those of students'."""

    columns: tuple[SampleColumn, ...]
    """p*'s first."""
    surprise_of_reference: dict[Candidate, Numbers]
    """By student, for each of p*'s texts: its log-probability under p* less that under the student, nats."""
    rows: int


class Exhibit(Struct, frozen=True, kw_only=True):
    log_probabilities: LogProbabilities | Missing
    positions: Positions | Missing
    trainings: tuple[TrainingCurve, ...] | Missing
    samples: Samples | Missing

    @classmethod
    def absent(cls, reason: str) -> Exhibit:
        """Of a run of which nothing but its results can be read."""
        nothing = Missing(reason)
        return cls(log_probabilities=nothing, positions=nothing, trainings=nothing, samples=nothing)

    @property
    def missing(self) -> dict[str, str]:
        """Why each part that is not shown is missing, by its name."""
        parts = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: part.reason for name, part in parts.items() if isinstance(part, Missing)}


def shown(part: T | Missing) -> T | None:
    """A part, or None where it is missing."""
    return None if isinstance(part, Missing) else part
