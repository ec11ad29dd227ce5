"""Garbage collection: find and remove what no run needs.

Each run has noted which artifacts it needs (`retention`); its note counts while the run's folder exists, or cannot be
seen from here. Garbage is

- artifacts that no kept run has noted, and folders in an artifact's place that have no manifest;
- what a crash left half-written, and checkpoints of steps that no kept run has noted or that are finished;
- the notes of runs that are gone.

Everything happens under the store's lock, so no step is running. Only files in the places where the store itself writes
are touched. Other files are left alone, and links too, since they may lead out of the store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distilscope.pipeline.manifest import MANIFEST
from distilscope.pipeline.retention import RetainedRun
from distilscope.pipeline.step import KIND
from distilscope.pipeline.store import Store

_FINGERPRINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Garbage:
    """A folder or file to remove, its size in bytes, and why no run needs it."""

    path: Path
    size: int
    why: str


def find_garbage(store: Store, runs: Sequence[RetainedRun], *, needed: frozenset[str] = frozenset()) -> list[Garbage]:
    """List the garbage of a store whose lock is held. `needed` names further artifacts to keep."""
    needed = needed.union(*(run.artifacts for run in runs if not run.gone))
    return [Garbage(path, _size(path), why) for path, why in _find(store.root.resolve(), runs, needed)]


def remove_garbage(store: Store, found: Sequence[Garbage]) -> None:
    """Remove what was found (see `Store.discard`). Needs the lock."""
    for one in found:
        with store.explaining_disk_errors(f"removing {one.path}"):
            store.discard(one.path)


def _find(root: Path, runs: Sequence[RetainedRun], needed: frozenset[str]) -> Iterator[tuple[Path, str]]:
    for path in _inside(root / ".partial"):
        yield path, "left half-written"
    unfinished = {name.split("/")[1] for name in needed if not (root / name / MANIFEST).is_file()}
    for path in _inside(root / ".scratch"):
        if path.name not in unfinished:
            yield path, "the checkpoint of a step that no kept run has under way"
    for kind in _inside(root):
        if KIND.fullmatch(kind.name) and kind.is_dir():
            for path in _inside(kind):
                if not _FINGERPRINT.fullmatch(path.name) or not path.is_dir():
                    continue
                if not (path / MANIFEST).is_file():
                    yield path, "has no manifest, so it is no artifact"
                elif f"{kind.name}/{path.name}" not in needed:
                    yield path, "no kept run needs it"
    for run in runs:
        if run.gone:
            yield run.file, f"the note of a run that is gone ({run.folder})"


def _inside(folder: Path) -> list[Path]:
    """The entries of a folder, sorted, without links; empty for a folder that is missing or a link itself."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [Path(parent, name) for parent, _, names in os.walk(path) for name in names]
    return sum(file.lstat().st_size for file in files)
