"""Reads the texts that a map shows: of p*, the teacher at each setting, the direct and the distilled students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distilscope.errors import UsageError
from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.nearest_neighbours import K
from distilscope.lm.data.detokenize import texts
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.artifacts import read_draws
from distilscope.studies.study import Study


@dataclass(frozen=True)
class Texts:
    """Texts that one model wrote."""

    candidate: Candidate
    seed: int | None
    """None for p*, which all seeds share."""
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Gathered:
    """The texts of a map: those that it shows, and those that give p*'s own scores."""

    reference: Texts
    """Draws of p* that no model learnt from."""
    others: tuple[Texts, ...]
    """The same number of texts of each model and seed, so that they can be compared."""
    more: tuple[Texts, ...]
    """As many again of p*'s training draws, disjoint: what a student that equals p* would score. Empty where a run
    keeps too few."""


def gather(study: Study, store: Store, *, per_model: int) -> Gathered:
    """`per_model` texts of each candidate, divided between its seeds, and up to four times as many of p*, as in the
    paper; fewer where a run has fewer. Students of a sweep's other sizes are left out.

    Raises UsageError where that leaves too few for nearest neighbours, StoreError where artifacts are gone.
    """
    read = _Reader(study, store)
    config = study.config
    each = min(per_model // config.seeds, config.ground_truth.num_eval, config.distil_draws)
    if each <= K:
        raise UsageError(
            f"--per-model {per_model} leaves {max(each, 0)} texts for each of {config.seeds} seeds, but nearest "
            "neighbours need more "
            f"than {K}; ask for at least {(K + 1) * config.seeds}, of a run with as many draws"
        )
    measured = [*study.teachers, *(one for one in study.students if not one.candidate.swept)]
    others = [Texts(one.candidate, one.seed, read.texts(one.draws, 0, each)) for one in measured]
    reference = Candidate("reference")
    held_out = read.texts((*study.test, *study.validation), 0, 4 * per_model)
    more = []
    if all(store.has(step) for step in study.data):  # nobody may have learnt from them
        more = [Texts(reference, seed, read.texts(study.data, seed * each, each)) for seed in range(config.seeds)]
    whole = tuple(one for one in more if len(one.texts) == each)
    return Gathered(Texts(reference, None, held_out), tuple(others), whole)


class _Reader:
    def __init__(self, study: Study, store: Store) -> None:
        self._store = store
        tokenizer = read_tokenizer(self._store.sound(study.prompts.inputs["tokenizer"]))
        assert tokenizer is not None  # the study's prompts were read with it
        self._tokenizer = tokenizer

    def texts(self, tiles: Sequence[Step], first: int, number: int) -> tuple[str, ...]:
        """`number` texts after the `first`, or as many as there are, with the prompt in front where there is only one.

        Several prompts say nothing about which model continued them, and could fill all that an embedder reads.
        """
        found: list[str] = []
        for step in tiles:
            if len(found) >= first + number:
                break
            draws = read_draws({"draws/0": self._store.sound(step)}, "draws")
            draws = draws.take(np.arange(min(len(draws), first + number - len(found))))
            lead = (
                self._tokenizer.decode(list(draws.prompts[0]), skip_special_tokens=False)
                if len(draws.prompts) == 1
                else ""
            )
            found += [lead + text for text in texts(self._tokenizer, draws)]
        return tuple(found[first:])
