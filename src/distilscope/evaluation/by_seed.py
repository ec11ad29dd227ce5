"""The students of a results document as arrays: a row per seed, a column per setting, so that settings can be paired by
seed.

A setting says how a student came about: its training and its teacher's selectivity, such as
{"training": "distilled", "temperature": 0.875}, {"training": "distilled", "top_k": 50} or {"training": "direct"}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from distilscope.errors import UsageError

Setting = Mapping[str, Any]

DIRECT: Setting = {"training": "direct"}

_WORDS = {"temperature": "temperature", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}
_WORDS |= {f"evaluation_{parameter}": f"sampled at {word}" for parameter, word in _WORDS.items()}


def setting_of(student: Mapping[str, Any]) -> Setting:
    """The setting of one record of `students` or `controls`.

    A distilled student's is its selectivity, or its temperature where only that stands (an empty selectivity is
    temperature 1); a control's is the selectivity it was sampled at.
    """
    setting: dict[str, Any] = {"training": student["training"], **(student.get("selectivity") or {})}
    if student["training"] == "distilled" and len(setting) == 1:
        temperature = student.get("temperature")
        setting["temperature"] = 1.0 if temperature is None else temperature
    return setting | {
        f"evaluation_{parameter}": value for parameter, value in (student.get("evaluation_selectivity") or {}).items()
    }


def named(setting: Setting) -> str:
    """How a setting is called in a sentence: "temperature 0.875", "top-k 50 and top-p 0.9", "the direct student"."""
    words = [f"{_WORDS.get(name, name)} {value}" for name, value in setting.items() if name != "training"]
    if setting["training"] == "direct":
        return " ".join(["the direct student", *words])
    return " and ".join(words)


@dataclass(frozen=True)
class Grid:
    """Precision and recall, nats per draw, by seed and setting; NaN where an estimate is infinite or a student is
    missing."""

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    precision: Float[np.ndarray, "seeds settings"]
    recall: Float[np.ndarray, "seeds settings"]
    infinite: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of the students that have an infinite estimate."""

    @classmethod
    def of(cls, students: Iterable[Mapping[str, Any]]) -> Grid:
        """From records of results.json, settings in their order there, without a sweep's other sizes.

        Raises UsageError where a record lacks what it should hold.
        """
        cells: dict[tuple[int, tuple[tuple[str, Any], ...]], tuple[float | None, float | None]] = {}
        try:
            for student in students:
                if student.get("variant"):
                    continue
                name = tuple(setting_of(student).items())
                cells[student["seed"], name] = (student["precision"]["mean"], student["recall"]["mean"])
            seeds = sorted({seed for seed, _ in cells})
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"a student in these results cannot be read ({error!r}); run the study again") from None
        names = list(dict.fromkeys(name for _, name in cells))
        values = np.full((2, len(seeds), len(names)), np.nan)
        infinite = set()
        for (seed, name), pair in cells.items():
            at = seeds.index(seed), names.index(name)
            values[(slice(None), *at)] = [np.nan if mean is None else mean for mean in pair]
            if None in pair:
                infinite.add(at)
        return cls(tuple(dict(name) for name in names), tuple(seeds), values[0], values[1], frozenset(infinite))

    @property
    def finite(self) -> Bool[np.ndarray, " settings"]:
        """Whether a setting has a student for every seed, with finite estimates."""
        return np.logical_and.reduce(np.isfinite(self.precision) & np.isfinite(self.recall))
