"""Reads what a finished run, or a simulation of mixtures, left: results.json, maybe run.json and map.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import msgspec

from distilscope.errors import UsageError, one_line, shown
from distilscope.evaluation.documents import MisfitError, Note, record_of, unnoted
from distilscope.evaluation.embedding_map import MAP_SCHEMA_VERSION, EmbeddingMap
from distilscope.evaluation.mixture_results import MixtureResults
from distilscope.evaluation.results import SCHEMA_VERSION, Results, Sources
from distilscope.evaluation.run_record import RunRecord

RESULTS = "results.json"
MAP = "map.json"
RUN = "run.json"

REMEDY = "run the study again"

T = TypeVar("T")


@overload
def read_results(folder: Path, *, mixtures: Literal[False] = False, note: Note = unnoted) -> Results: ...
@overload
def read_results(folder: Path, *, mixtures: Literal[True], note: Note = unnoted) -> Results | MixtureResults: ...
def read_results(folder: Path, *, mixtures: bool = False, note: Note = unnoted) -> Results | MixtureResults:
    """The results of a run; with `mixtures`, also those of `distilscope mog`. `note` takes what a reader should know.

    Raises UsageError where the run is not finished, or its file is of another schema or cannot be read.
    """
    document = _of_run(folder)
    if "mixtures" in document and mixtures:
        return _record(folder / RESULTS, document, MixtureResults, "simulate the mixtures again", note)
    return _record(folder / RESULTS, _not_of_mixtures(folder, document), Results, REMEDY, note)


def read_sources(folder: Path) -> Sources:
    """What a finished run was planned from, whatever else its results.json holds. Raises UsageError as
    `read_results`."""
    document = _not_of_mixtures(folder, _of_run(folder))
    return _record(folder / RESULTS, document, _Planned, REMEDY, unnoted).sources


class _Planned(msgspec.Struct, frozen=True):
    sources: Sources


def _of_run(folder: Path) -> dict[str, Any]:
    """The document of results.json, of the schema that this version reads."""
    path = folder / RESULTS
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the one that `distilscope run` named")
    if not path.is_file():
        raise UsageError(
            f"{folder} is no finished run: it lacks results.json; give the same `distilscope run` command again to "
            "finish it"
        )
    document = _decoded(path, REMEDY)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{folder} holds results of schema {shown(version)}, this version reads {SCHEMA_VERSION}; {REMEDY}"
        )
    return document


def _not_of_mixtures(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    if "mixtures" in document:
        raise UsageError(
            f"{folder} holds mixtures of Gaussians, which only `distilscope figures` reads; give the folder of a "
            "`distilscope run`"
        )
    return document


def read_map(folder: Path, *, note: Note = unnoted) -> EmbeddingMap | None:
    """A run's map.json, or None where `distilscope map` has not left one. Raises UsageError for what is no map."""
    remedy = f"remove it, or draw the map again with `distilscope map {folder}`"
    return _beside(folder / MAP, EmbeddingMap, MAP_SCHEMA_VERSION, remedy, note)


def read_run(folder: Path, *, note: Note = unnoted) -> RunRecord | None:
    """A run's run.json, or None where there is none. Raises UsageError where it cannot be read."""
    return _beside(folder / RUN, RunRecord, 1, "remove it or run the study again", note)


def _beside(path: Path, kind: type[T], version: int, remedy: str, note: Note) -> T | None:
    if not path.is_file():
        return None
    document = _decoded(path, remedy)
    if document.get("schema_version") != version:
        raise UsageError(
            f"{path} is of schema {shown(document.get('schema_version'))}, this version reads {version}; {remedy}"
        )
    return _record(path, document, kind, remedy, note)


def _decoded(path: Path, remedy: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({type(error).__name__}: {one_line(error)}); {remedy}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} cannot be read (`$` is not an object); {remedy}")
    return document


def _record(path: Path, document: dict[str, Any], kind: type[T], remedy: str, note: Note) -> T:
    try:
        return record_of(document, kind, lambda sentence: note(f"{path}: {sentence}"))
    except (MisfitError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)}); {remedy}") from None
