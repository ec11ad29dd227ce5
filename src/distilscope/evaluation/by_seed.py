"""Precision and recall as arrays: a row per seed, a column per candidate, so that candidates can be paired by seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.results import Student


@dataclass(frozen=True)
class Grid:
    """Nats per draw, by seed and candidate; NaN where an estimate is infinite or a student is missing."""

    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    precision: Float[np.ndarray, "seeds candidates"]
    recall: Float[np.ndarray, "seeds candidates"]

    @classmethod
    def of(cls, students: Iterable[Student]) -> Grid:
        """From students and controls, candidates in their order there, without a sweep's other sizes."""
        cells = {
            (student.seed, student.candidate): (student.precision.mean, student.recall.mean)
            for student in students
            if not student.candidate.swept
        }
        seeds = sorted({seed for seed, _ in cells})
        candidates = list(dict.fromkeys(candidate for _, candidate in cells))
        values = np.full((2, len(seeds), len(candidates)), np.nan)
        for (seed, candidate), pair in cells.items():
            at = seeds.index(seed), candidates.index(candidate)
            values[(slice(None), *at)] = [np.nan if mean is None else mean for mean in pair]
        return cls(tuple(candidates), tuple(seeds), values[0], values[1])

    @property
    def finite(self) -> Bool[np.ndarray, " candidates"]:
        """Whether a candidate has a student for every seed, with finite estimates."""
        return np.logical_and.reduce(np.isfinite(self.precision) & np.isfinite(self.recall))
