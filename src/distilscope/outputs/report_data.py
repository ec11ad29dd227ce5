"""What a finished run's artifacts can show beside results.json: distributions, losses by position, training curves,
texts.

`gather` reads them and gives one plain document for the report, which knows no store. Whatever artifacts are gone, the
rest is shown; each part that cannot be had says why. Students of a sweep's other sizes are left out: a figure has room
for one study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import StoreError
from distilscope.lm.data.detokenize import texts
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.sequences import Sequences
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.artifacts import read_draws, read_other_scores, read_own_scores, read_training
from distilscope.studies.study import Measured, Study

BINS = 60
"""Of the histograms, over the whole range."""

LOOKED_AT = 4096
"""Most draws of each candidate and seed behind a histogram or a curve: enough for the eye, whatever a run's size."""

SHOWN_DRAWS = 60
"""Rows of texts, all of seed 0."""

LONGEST_TEXT = 600
"""Characters of a text that are shown; what is longer says how long it was."""


def gather(study: Study, store: Store) -> dict[str, Any]:
    """`log_probabilities`, `positions`, `trainings`, `samples`; a part that cannot be read is {"missing": why}."""
    cases = _Cases(study, store)
    parts: dict[str, Callable[[], Any]] = {
        "log_probabilities": lambda: _log_probabilities(cases),
        "positions": lambda: _positions(cases),
        "trainings": lambda: _trainings(cases),
        "samples": lambda: _samples(cases),
    }
    return {name: _or_why_not(part) for name, part in parts.items()}


def absent(why: str) -> dict[str, Any]:
    """The document of a run of which nothing but its results can be read."""
    return {name: {"missing": why} for name in ("log_probabilities", "positions", "trainings", "samples")}


def _or_why_not(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except (OSError, StoreError):
        return {
            "missing": (
                "artifacts of this run are no longer in its store; the same `distilscope run` command makes them again"
            )
        }


@dataclass(frozen=True)
class _Side:
    """Some draws and their tokens' log-probabilities (nats): under what drew them, and under the other side; None where
    there is none."""

    draws: Sequences
    own: Float[np.ndarray, " tokens"] | None
    other: Float[np.ndarray, " tokens"] | None


class _Cases:
    """The study's own students and teachers with their draws and scores, read as they are asked for, once."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self._known: dict[tuple[tuple[Step, ...], int | None], _Side] = {}
        self.modelled = study.ground_truth is not None
        base = next(iter(study.students)).variant
        self.students = [one for one in study.students if one.variant == base]

    def groups(self, measured: Sequence[Measured]) -> Iterator[tuple[dict[str, Any], list[Measured]]]:
        """Who it is (training and setting), with one entry per seed."""
        found: dict[str, tuple[dict[str, Any], list[Measured]]] = {}
        for one in measured:
            who = {"training": one.training, "selectivity": None if one.setting is None else dict(one.setting)}
            found.setdefault(repr(who), (who, []))[1].append(one)
        yield from found.values()

    def candidate(self, one: Measured) -> _Side:
        """A candidate's draws under it and under p*."""
        return self._side(one.draws, one.scores, 0 if self.modelled else None, own=True)

    def reference(self, one: Measured) -> _Side:
        """p*'s test draws, or the data in their place, under p* and under a candidate."""
        return self._side(self.study.test, one.of_reference, one.index, own=self.modelled)

    def _side(self, draws: tuple[Step, ...], scores: tuple[Step, ...], index: int | None, *, own: bool) -> _Side:
        if (scores, index) not in self._known:
            self._known[scores, index] = self._read(draws, scores, index, own=own)
        return self._known[scores, index]

    def _read(self, draws: tuple[Step, ...], scores: tuple[Step, ...], index: int | None, *, own: bool) -> _Side:
        tiles, mine, theirs = [], [], []
        for drawn, scored in zip(draws, scores, strict=False):  # of D' only the first tiles are scored
            tile, folder = read_draws({"draws/0": self.store.path(drawn)}, "draws"), self.store.path(scored)
            tiles.append(tile.take(np.arange(min(len(tile), scored.config["first"]))))
            if own:
                mine.append(read_own_scores(folder).log_prob)
            if index is not None:
                theirs.append(read_other_scores(folder, index).log_prob)
            if sum(map(len, tiles)) >= LOOKED_AT:
                break
        return _Side(Sequences.concatenate(tiles), _joined(mine), _joined(theirs))


def _joined(parts: list[np.ndarray]) -> Float[np.ndarray, " tokens"] | None:
    return np.concatenate(parts).astype(np.float64) if parts else None


def _totals(draws: Sequences, per_token: np.ndarray | None) -> Float[np.ndarray, " n"] | None:
    return None if per_token is None else draws.sum_per_sequence(per_token)


def _log_probabilities(cases: _Cases) -> dict[str, Any]:
    """Histograms of per-sequence log-probabilities (nats) with shared edges, all seeds together: p*'s draws under p*,
    and for each kind of student its draws under p* and p*'s draws under it. `infinite` counts draws that have
    probability 0, beside the bins."""
    values: list[tuple[dict[str, Any], dict[str, np.ndarray | None]]] = []
    own = None
    for who, ones in cases.groups(cases.students):
        candidates, references = [cases.candidate(one) for one in ones], [cases.reference(one) for one in ones]
        own = _totals(references[0].draws, references[0].own)
        sides = {"under_reference": candidates, "of_reference": references}
        totals = {name: [_totals(side.draws, side.other) for side in each] for name, each in sides.items()}
        values.append((who, {name: _joined([one for one in each if one is not None]) for name, each in totals.items()}))
    everything = [array for _, pair in values for array in pair.values() if array is not None] + (
        [] if own is None else [own]
    )
    finite = np.concatenate(everything)
    finite = finite[np.isfinite(finite)]
    edges = np.histogram_bin_edges(finite, bins=BINS)
    return {
        "edges": _rounded(edges),
        "reference": _histogram(own, edges),
        "groups": [who | {name: _histogram(array, edges) for name, array in pair.items()} for who, pair in values],
    }


def _histogram(values: np.ndarray | None, edges: np.ndarray) -> dict[str, Any] | None:
    if values is None:
        return None
    finite = values[np.isfinite(values)]
    counts = np.histogram(finite, bins=edges)[0].tolist()
    return {"counts": counts, "n": len(values), "infinite": len(values) - len(finite)}


def _positions(cases: _Cases) -> dict[str, Any]:
    """Mean loss (nats per token) by position, over the sequences that reach it and all seeds: of p*'s test draws under
    each kind of student and under p*, and of each kind's draws under p*. Null where it is infinite or nothing reaches.
    """
    horizon = cases.study.config.ground_truth.horizon
    test = cases.reference(cases.students[0])
    groups = []
    for who, ones in cases.groups(cases.students):
        sides = {
            "of_reference": [cases.reference(one) for one in ones],
            "under_reference": [cases.candidate(one) for one in ones],
        }
        groups.append(
            who
            | {name: _by_position([(one.draws, one.other) for one in each], horizon) for name, each in sides.items()}
        )
    reached = np.bincount(_places(test.draws), minlength=horizon)
    return {"reached": reached.tolist(), "reference": _by_position([(test.draws, test.own)], horizon), "groups": groups}


def _by_position(sides: list[tuple[Sequences, np.ndarray | None]], horizon: int) -> list[float | None] | None:
    total, reached = np.zeros(horizon), np.zeros(horizon)
    for draws, log_prob in sides:
        if log_prob is None:
            return None
        places = _places(draws)
        total += np.bincount(places, weights=-log_prob, minlength=horizon)
        reached += np.bincount(places, minlength=horizon)
    means = np.divide(total, reached, out=np.full(horizon, np.nan), where=reached > 0)
    return [round(mean, 5) if np.isfinite(mean) else None for mean in means.tolist()]


def _places(draws: Sequences) -> np.ndarray:
    """Each token's place in its sequence, from 0."""
    return np.arange(len(draws.ids)) - np.repeat(draws.offsets[:-1], draws.lengths)


def _trainings(cases: _Cases) -> list[dict[str, Any]]:
    """Every model that was trained: whose, its curve, and the step that was kept."""
    found: dict[Step, dict[str, Any]] = {}
    for one in (*cases.study.teachers, *cases.students):
        if one.model.kind == "training" and one.model not in found:  # a teacher is there once for each setting
            record = read_training(cases.store.path(one.model))
            setting = dict(one.setting) if one.setting and one.training == "distilled" else None
            who = {"training": one.training, "selectivity": setting, "seed": one.seed}
            found[one.model] = who | {"history": record["history"], "chosen_step": record["chosen_step"]}
    return list(found.values())


def _samples(cases: _Cases) -> dict[str, Any]:
    """The first draws of seed 0 by p*, by the teacher at each setting, by the direct and by each distilled student.

    Within the teacher's columns row i has one key, and within the students' too, so that rows show what a setting
    changes. `surprise` is the log-probability of the text under what drew it less that under the other side (nats; null
    where that is infinite or not to be had): p* for a teacher or student; for p*'s draws, each student in turn. Of
    data, which nothing drew, it is -log q.
    """
    study, tokens = cases.study, cases.study.prompts.inputs["tokenizer"]
    cases.store.manifest(tokens)  # a model that is gone is not one without a tokenizer
    tokenizer = read_tokenizer(cases.store.path(tokens))
    if tokenizer is None:
        return {"missing": "the model has no tokenizer.json, so its draws cannot be read as text"}
    students = [one for one in cases.students if one.seed == 0]
    teachers = [one for one in study.teachers if one.seed == 0]
    references = [cases.reference(one) for one in students]
    sides = [cases.candidate(one) for one in (*teachers, *students)]
    rows = np.arange(min(SHOWN_DRAWS, *(len(side.draws) for side in (*references, *sides))))
    columns: list[dict[str, Any]] = [
        {"training": "reference", "selectivity": None, "texts": _texts(tokenizer, references[0].draws.take(rows))}
        | {"surprise": [_surprise(side, rows) for side in references]}
    ]
    for one, side in zip((*teachers, *students), sides, strict=True):
        who = {"training": one.training, "selectivity": None if one.setting is None else dict(one.setting)}
        columns.append(who | {"texts": _texts(tokenizer, side.draws.take(rows)), "surprise": _surprise(side, rows)})
    prompts = tokenizer.decode_batch(
        [list(prompt) for prompt in references[0].draws.prompts], skip_special_tokens=False
    )
    several = len(prompts) > 1
    for column, side in zip(columns, (references[0], *sides), strict=True):
        column["prompts"] = (
            [_shortened(prompts[which]) for which in side.draws.prompt_of[rows].tolist()] if several else None
        )
    students_are = [
        {"training": one.training, "selectivity": None if one.setting is None else dict(one.setting)}
        for one in students
    ]
    return {"columns": columns, "students": students_are, "rows": len(rows)}


def _texts(tokenizer: Any, draws: Sequences) -> list[dict[str, Any]]:
    return [
        {"text": _shortened(text), "tokens": length, "ended": ended}
        for text, length, ended in zip(
            texts(tokenizer, draws), draws.lengths.tolist(), draws.ended.tolist(), strict=True
        )
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _surprise(side: _Side, rows: np.ndarray) -> list[float | None]:
    own, other = _totals(side.draws, side.own), _totals(side.draws, side.other)
    if other is None:
        return [None] * len(rows)
    surprise = -other if own is None else own - other
    return [round(value, 3) if np.isfinite(value) else None for value in surprise[rows].tolist()]


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
