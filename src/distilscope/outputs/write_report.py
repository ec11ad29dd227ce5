"""Writes a finished run's report: results.json, run.json and what its artifacts show, as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distilscope.errors import DistilscopeError
from distilscope.evaluation.documents import Note, unnoted
from distilscope.evaluation.results_file import read_map, read_results, read_run
from distilscope.outputs.report_data import gather
from distilscope.pipeline.store import Store
from distilscope.report.exhibit import Exhibit
from distilscope.studies.run import recorded, store_folder
from distilscope.system.atomic_file import write_atomic

NAME = "report.html"


@dataclass(frozen=True)
class Written:
    """Where the report is, and why it lacks what it could not show, by part."""

    path: Path
    missing: Mapping[str, str]


def write_report(folder: Path, *, note: Note = unnoted) -> Written:
    """Writes `folder`/report.html and nothing else.

    Parts whose artifacts are gone are left out, and the page says so. `note` takes what a reader of the run's documents
    should know. Raises UsageError where `folder` is no finished run.
    """
    from distilscope.report.page import page

    results = read_results(folder, note=note)
    exhibit = _exhibit(folder)
    html = page(results=results, exhibit=exhibit, run=read_run(folder, note=note), map=read_map(folder, note=note))
    write_atomic(folder / NAME, html)
    return Written(folder / NAME, exhibit.missing)


def _exhibit(folder: Path) -> Exhibit:
    try:
        study = recorded(folder)
    except DistilscopeError as error:
        return Exhibit.absent(str(error))
    return gather(study, Store(store_folder(folder)))
