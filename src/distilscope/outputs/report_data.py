"""Reads what a report shows of a run's artifacts: histograms, losses by position, training curves, texts.

A part whose artifacts are gone says so. Students of a sweep's other sizes are left out: a chart has room for one study.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from tokenizers import Tokenizer

from distilscope.errors import StoreError
from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.documents import record_of
from distilscope.lm.data.detokenize import texts
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.sequences import Sequences
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.report.exhibit import (
    Exhibit,
    Histogram,
    LogProbabilities,
    Missing,
    Numbers,
    Positions,
    SampleColumn,
    Samples,
    SampleText,
    StudentHistograms,
    StudentPositions,
    TrainingCurve,
    TrainingEvaluation,
)
from distilscope.studies.artifacts import read_draws, read_other_scores, read_own_scores, read_training
from distilscope.studies.study import Measured, Study

T = TypeVar("T")

BINS = 60
"""Of the histograms, over the whole range."""

MOST_DRAWS = 4096
"""Of each candidate and seed behind a histogram or a curve: enough for the eye, whatever a run's size."""

SHOWN_DRAWS = 60
"""Rows of texts, all of seed 0."""

LONGEST_TEXT = 600
"""Characters of a text that are shown; what is longer says how long it was."""


def gather(study: Study, store: Store) -> Exhibit:
    """What a report shows of a run's artifacts; a part that cannot be read is `Missing`."""
    scored = _ScoredDraws(study, store)
    return Exhibit(
        log_probabilities=_unless_gone(lambda: _log_probabilities(scored)),
        positions=_unless_gone(lambda: _positions(scored)),
        trainings=_unless_gone(lambda: _trainings(scored)),
        samples=_unless_gone(lambda: _samples(scored)),
    )


def _unless_gone(part: Callable[[], T]) -> T | Missing:
    try:
        return part()
    except (OSError, StoreError):
        return Missing(
            "artifacts of this run are no longer in its store; the same `distilscope run` command makes them again"
        )


@dataclass(frozen=True)
class _Side:
    """Some draws, with log-probabilities per token (nats) under what drew them and under the other side.

    None for a side that has no log-probabilities, because it is data.
    """

    draws: Sequences
    own: Float[np.ndarray, " tokens"] | None
    other: Float[np.ndarray, " tokens"] | None

    @property
    def own_totals(self) -> Float[np.ndarray, " n"] | None:
        """Per sequence."""
        return None if self.own is None else self.draws.sum_per_sequence(self.own)

    @property
    def other_totals(self) -> Float[np.ndarray, " n"] | None:
        """Per sequence."""
        return None if self.other is None else self.draws.sum_per_sequence(self.other)


class _ScoredDraws:
    """The draws of the study's own students and teachers with their scores; each is read once, when it is asked for."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.modelled = study.ground_truth is not None
        self.students = [one for one in study.students if not one.candidate.swept]
        self._of_candidates: dict[tuple[Candidate, int], _Side] = {}
        self._of_reference: dict[tuple[Candidate, int], _Side] = {}

    def by_candidate(self) -> dict[Candidate, list[Measured]]:
        """The students of each candidate, one per seed."""
        found: dict[Candidate, list[Measured]] = {}
        for one in self.students:
            found.setdefault(one.candidate, []).append(one)
        return found

    def of_candidate(self, one: Measured) -> _Side:
        """A candidate's draws under it and under p*."""
        key = one.candidate, one.seed
        if key not in self._of_candidates:
            place = self.study.place_of_reference if self.modelled else None
            self._of_candidates[key] = self._read(one.draws, one.scores, place, own=True)
        return self._of_candidates[key]

    def of_reference(self, one: Measured) -> _Side:
        """p*'s test draws, or the data in their place, under p* and under a candidate."""
        key = one.candidate, one.seed
        if key not in self._of_reference:
            self._of_reference[key] = self._read(self.study.test, one.of_reference, one.place_among, own=self.modelled)
        return self._of_reference[key]

    def _read(
        self, draws: Sequence[Step], scores: Sequence[Step], place: Callable[[Step], int] | None, *, own: bool
    ) -> _Side:
        """`place` finds the other side among those that a tile was scored by; None reads no other side."""
        tiles, mine, theirs = [], [], []
        for drawn, scored in zip(draws, scores, strict=False):  # of D' only the first tiles are scored
            tile, folder = read_draws({"draws/0": self.store.path(drawn)}, "draws"), self.store.path(scored)
            tiles.append(tile.take(np.arange(min(len(tile), scored.config["first"]))))
            if own:
                mine.append(read_own_scores(folder).log_prob)
            if place is not None:
                theirs.append(read_other_scores(folder, place(scored)).log_prob)
            if sum(map(len, tiles)) >= MOST_DRAWS:
                break
        return _Side(Sequences.concatenate(tiles), _joined(mine), _joined(theirs))


def _joined(parts: Sequence[np.ndarray | None]) -> Float[np.ndarray, " n"] | None:
    """One array of those that are there; None where none is."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there).astype(np.float64) if there else None


def _log_probabilities(scored: _ScoredDraws) -> LogProbabilities:
    own = scored.of_reference(scored.students[0]).own_totals
    under_reference, of_reference = {}, {}
    for candidate, ones in scored.by_candidate().items():
        under_reference[candidate] = _joined([scored.of_candidate(one).other_totals for one in ones])
        of_reference[candidate] = _joined([scored.of_reference(one).other_totals for one in ones])
    everything = _joined([own, *under_reference.values(), *of_reference.values()])
    assert everything is not None  # every student scores p*'s draws
    edges = np.histogram_bin_edges(everything[np.isfinite(everything)], bins=BINS)
    return LogProbabilities(
        edges=tuple(round(edge, 4) for edge in edges.tolist()),
        reference=_histogram(own, edges),
        groups=tuple(
            StudentHistograms(
                candidate=candidate,
                under_reference=_histogram(under_reference[candidate], edges),
                of_reference=_histogram(of_reference[candidate], edges),
            )
            for candidate in of_reference
        ),
    )


def _histogram(values: np.ndarray | None, edges: np.ndarray) -> Histogram | None:
    if values is None:
        return None
    finite = values[np.isfinite(values)]
    counts = np.histogram(finite, bins=edges)[0].tolist()
    return Histogram(counts=tuple(counts), n=len(values), infinite=len(values) - len(finite))


def _positions(scored: _ScoredDraws) -> Positions:
    horizon = scored.study.config.ground_truth.horizon
    test = scored.of_reference(scored.students[0])
    groups = []
    for candidate, ones in scored.by_candidate().items():
        of_reference, of_candidate = map(scored.of_reference, ones), map(scored.of_candidate, ones)
        groups.append(
            StudentPositions(
                candidate=candidate,
                of_reference=_by_position([(side.draws, side.other) for side in of_reference], horizon),
                under_reference=_by_position([(side.draws, side.other) for side in of_candidate], horizon),
            )
        )
    return Positions(
        reached=tuple(np.bincount(_positions_of(test.draws), minlength=horizon).tolist()),
        reference=_by_position([(test.draws, test.own)], horizon),
        groups=tuple(groups),
    )


def _by_position(sides: Sequence[tuple[Sequences, np.ndarray | None]], horizon: int) -> Numbers | None:
    """Mean loss at each position over the sequences that reach it; None where it is infinite, or no sequence reaches
    it."""
    total, reached = np.zeros(horizon), np.zeros(horizon)
    for draws, log_prob in sides:
        if log_prob is None:
            return None
        positions = _positions_of(draws)
        total += np.bincount(positions, weights=-log_prob, minlength=horizon)
        reached += np.bincount(positions, minlength=horizon)
    means = np.divide(total, reached, out=np.full(horizon, np.nan), where=reached > 0)
    return tuple(round(mean, 5) if np.isfinite(mean) else None for mean in means.tolist())


def _positions_of(draws: Sequences) -> np.ndarray:
    """Each token's position in its sequence, from 0."""
    return np.arange(len(draws.ids)) - np.repeat(draws.offsets[:-1], draws.lengths)


def _trainings(scored: _ScoredDraws) -> tuple[TrainingCurve, ...]:
    found: dict[Step, TrainingCurve] = {}
    for one in (*scored.study.teachers, *scored.students):
        if one.model.kind == "training" and one.model not in found:  # a teacher is there once for each setting
            record = read_training(scored.store.path(one.model))
            found[one.model] = TrainingCurve(
                candidate=Candidate("teacher") if one.candidate.role == "teacher" else one.candidate,
                seed=one.seed,
                history=tuple(record_of(entry, TrainingEvaluation) for entry in record["history"]),
                chosen_step=record["chosen_step"],
            )
    return tuple(found.values())


def _samples(scored: _ScoredDraws) -> Samples | Missing:
    """The first draws of seed 0 of p*, of the teacher at each setting and of each student.

    Within the teacher's columns a row has one key, and within the students' too, so that rows show what a setting
    changes. Where p* is data, which nothing drew, its surprise under a student is -log q.
    """
    study, tokens = scored.study, scored.study.prompts.inputs["tokenizer"]
    scored.store.manifest(tokens)  # raises where the model is gone, which is not a model without a tokenizer
    tokenizer = read_tokenizer(scored.store.path(tokens))
    if tokenizer is None:
        return Missing("the model has no tokenizer.json, so its draws cannot be read as text")
    students = [one for one in scored.students if one.seed == 0]
    teachers = [one for one in study.teachers if one.seed == 0]
    references = {one.candidate: scored.of_reference(one) for one in students}
    sides = {one.candidate: scored.of_candidate(one) for one in (*teachers, *students)}
    rows = np.arange(min(SHOWN_DRAWS, *(len(side.draws) for side in (*references.values(), *sides.values()))))
    test = scored.of_reference(students[0]).draws
    prompts = tokenizer.decode_batch([list(prompt) for prompt in test.prompts], skip_special_tokens=False)

    def column(candidate: Candidate, draws: Sequences, surprise: Numbers | None) -> SampleColumn:
        follows = draws.prompt_of[rows].tolist()
        return SampleColumn(
            candidate=candidate,
            texts=_texts(tokenizer, draws.take(rows)),
            prompts=tuple(_shortened(prompts[which]) for which in follows) if len(prompts) > 1 else None,
            surprise=surprise,
        )

    return Samples(
        columns=(
            column(Candidate("reference"), test, None),
            *(column(candidate, side.draws, _surprise(side, rows)) for candidate, side in sides.items()),
        ),
        surprise_of_reference={candidate: _surprise(side, rows) for candidate, side in references.items()},
        rows=len(rows),
    )


def _texts(tokenizer: Tokenizer, draws: Sequences) -> tuple[SampleText, ...]:
    written = zip(texts(tokenizer, draws), draws.lengths.tolist(), draws.ended.tolist(), strict=True)
    return tuple(SampleText(text=_shortened(text), tokens=length, ended=ended) for text, length, ended in written)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _surprise(side: _Side, rows: np.ndarray) -> Numbers:
    """Log-probability of each text under what drew it less that under the other side; None where it is infinite or
    cannot be had."""
    own, other = side.own_totals, side.other_totals
    if other is None:
        return (None,) * len(rows)
    surprise = -other if own is None else own - other
    return tuple(round(value, 3) if np.isfinite(value) else None for value in surprise[rows].tolist())
