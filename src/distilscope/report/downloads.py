"""What a reader can take away from a page: files inside the page itself, as data links."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


def as_csv(results: Mapping[str, Any]) -> str:
    """A row per student, control and teacher; an estimate is two columns, and what is infinite or not available is
    empty."""
    out = io.StringIO()
    names = [f"{name}{suffix}" for name in ESTIMATES for suffix in ("", "_stderr")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["training", "setting", "drawn_at", "seed", "variant", *names, "mean_length"])
    for record in results["students"]:
        writer.writerow(_row(record, record["training"], {"temperature": results.get("evaluation_temperature", 1.0)}))
    for record in results.get("controls") or ():
        writer.writerow(_row(record, record["training"], record["evaluation_selectivity"]))
    for record in results.get("teacher") or ():
        writer.writerow(_row({**record, "candidate_entropy": record["entropy"]}, "teacher", record["selectivity"]))
    return out.getvalue()


def _row(record: Mapping[str, Any], training: str, drawn_at: Mapping[str, Any]) -> list[Any]:
    cells: list[Any] = [
        training,
        _knobs(record["selectivity"]),
        _knobs(drawn_at),
        record["seed"],
        _knobs(record.get("variant")),
    ]
    for name in ESTIMATES:
        estimate = record.get(name) or {}
        cells += [estimate.get("mean"), estimate.get("stderr")]
    length = record.get("mean_length") or {}
    return [*cells, (length.get("candidate") or length).get("mean")]


def _knobs(setting: Mapping[str, Any] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (setting or {}).items())
