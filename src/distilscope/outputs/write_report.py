"""Writes a finished run's report: results.json, run.json and what the artifacts can show, as one file to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilscope.errors import DistilscopeError, UsageError
from distilscope.evaluation.results_file import read_map, read_results
from distilscope.outputs.report_data import absent, gather
from distilscope.pipeline.store import Store
from distilscope.studies.run import recorded, store_folder
from distilscope.system.atomic_file import write_atomic

NAME = "report.html"


@dataclass(frozen=True)
class Written:
    """Where the report is, and what it could not show: part to reason."""

    path: Path
    missing: Mapping[str, str]


def write_report(folder: Path) -> Written:
    """Writes `folder`/report.html and nothing else.

    Artifacts that are gone leave gaps that say so. Raises UsageError where `folder` is no finished run.
    """
    from distilscope.report.page import page

    results = read_results(folder)
    exhibit = _exhibit(folder)
    html = page(results=results, exhibit=exhibit, run=_beside(folder / "run.json"), map=read_map(folder))
    write_atomic(folder / NAME, html)
    missing = {
        name: part["missing"] for name, part in exhibit.items() if isinstance(part, Mapping) and "missing" in part
    }
    return Written(folder / NAME, missing)


def _exhibit(folder: Path) -> dict[str, Any]:
    try:
        study = recorded(folder)
    except DistilscopeError as error:
        return absent(str(error))
    return gather(study, Store(store_folder(folder)))


def _beside(path: Path) -> dict[str, Any] | None:
    """A document that may stand beside the results."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); remove it or run the study again") from None
