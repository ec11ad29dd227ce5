"""What a reader can take away from a page: files inside the page itself, as data links."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distilscope.evaluation.documents import document_of
from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.results import Results

ESTIMATES = (
    "precision",
    "recall",
    "candidate_entropy",
    "reference_entropy",
    "kl_candidate_reference",
    "kl_reference_candidate",
)


@dataclass(frozen=True)
class Download:
    """A file by name, and the link that holds all of it."""

    name: str
    link: str
    size: int

    @classmethod
    def of(cls, name: str, text: str, kind: str) -> Download:
        content = text.encode()
        return cls(name, f"data:{kind};charset=utf-8;base64,{base64.b64encode(content).decode('ascii')}", len(content))


def as_csv(results: Results) -> str:
    """A row per student, control and teacher; an estimate is two columns, and what is infinite or not available is
    empty."""
    out = io.StringIO()
    names = [f"{name}{suffix}" for name in ESTIMATES for suffix in ("", "_stderr")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["training", "setting", "drawn_at", "seed", "variant", *names, "mean_length"])
    for student in (*results.students, *results.controls):
        drawn_at, variant = student.candidate.evaluation or results.evaluated_at, document_of(student.variant)
        who = [student.training, _pairs(student.selectivity), _pairs(drawn_at), student.seed, _pairs(variant)]
        estimates = [getattr(student, name) for name in ESTIMATES]
        writer.writerow([*who, *_numbers(estimates), student.mean_length.candidate.mean])
    for teacher in results.teacher:
        setting = _pairs(teacher.selectivity)
        estimates = [teacher.precision, teacher.recall, teacher.entropy, None, None, None]
        row = ["teacher", setting, setting, teacher.seed, "", *_numbers(estimates), teacher.mean_length.mean]
        writer.writerow(row)
    return out.getvalue()


def _numbers(estimates: Iterable[Estimate | None]) -> list[float | None]:
    """Mean and standard error of each, in the order of `ESTIMATES`."""
    return [number for one in estimates for number in ((one.mean, one.stderr) if one else (None, None))]


def _pairs(setting: Mapping[str, Any] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (setting or {}).items())
