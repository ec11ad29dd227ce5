"""What a store holds that no run needs, and its removal.

A store's runs have noted what they need (`kept`); a run is kept while its folder is there, or cannot be seen from here.
Removed are

- artifacts that no kept run has noted, and folders in an artifact's place that have no manifest;
- what a crash left half-written, and checkpoints of steps that no kept run has noted or that are finished;
- the notes of runs that are gone.

Everything happens under the store's lock, so no step is running. Only what lies where the store puts such things is
ever touched: other files, and links, which may lead out of the store, are left alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distilscope.pipeline.manifest import NAME
from distilscope.pipeline.retention import KeptRun
from distilscope.pipeline.step import KIND
from distilscope.pipeline.store import Store

_FINGERPRINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Rubbish:
    """Something to remove: a folder or file of the store, its size in bytes, and why nobody needs it."""

    path: Path
    size: int
    why: str


def find_rubbish(store: Store, runs: Sequence[KeptRun], *, needed: frozenset[str] = frozenset()) -> list[Rubbish]:
    """Of a store whose lock is held; `needed` are artifacts that are kept beside those of the runs."""
    needed = needed.union(*(run.artifacts for run in runs if not run.gone))
    return [Rubbish(path, _size(path), why) for path, why in _find(store.root.resolve(), runs, needed)]


def remove_rubbish(store: Store, found: Sequence[Rubbish]) -> None:
    """Each out of sight first, so that no artifact is ever half there. Needs the lock."""
    for one in found:
        with store.speaking_plainly(f"removing {one.path}"):
            store.discard(one.path)


def _find(root: Path, runs: Sequence[KeptRun], needed: frozenset[str]) -> Iterator[tuple[Path, str]]:
    for path in _inside(root / ".partial"):
        yield path, "left half-written"
    unfinished = {name.split("/")[1] for name in needed if not (root / name / NAME).is_file()}
    for path in _inside(root / ".scratch"):
        if path.name not in unfinished:
            yield path, "the checkpoint of a step that no kept run has under way"
    for kind in _inside(root):
        if KIND.fullmatch(kind.name) and kind.is_dir():
            for path in _inside(kind):
                if not _FINGERPRINT.fullmatch(path.name) or not path.is_dir():
                    continue
                if not (path / NAME).is_file():
                    yield path, "has no manifest, so it is no artifact"
                elif f"{kind.name}/{path.name}" not in needed:
                    yield path, "no kept run needs it"
    for run in runs:
        if run.gone:
            yield run.file, f"the note of a run that is gone ({run.folder})"


def _inside(folder: Path) -> list[Path]:
    """What a folder holds, in order; nothing of one that is missing or a link, and no links."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [Path(parent, name) for parent, _, names in os.walk(path) for name in names]
    return sum(file.lstat().st_size for file in files)
