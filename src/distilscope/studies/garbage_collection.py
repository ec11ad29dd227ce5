"""`distilscope gc`: which stores are cleared, what their runs need, and what is left to remove."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError
from distilscope.pipeline.garbage import Garbage, find_garbage, remove_garbage
from distilscope.pipeline.retention import RetainedRun, artifact_names, retained_run, retained_runs
from distilscope.pipeline.store import Store
from distilscope.studies.run import recorded, store_folder


@dataclass(frozen=True)
class Clearing:
    """A store, locked: what its runs are, and what none of them needs."""

    store: Store
    runs: tuple[RetainedRun, ...]
    rubbish: tuple[Garbage, ...]

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(one.size for one in self.rubbish)

    def remove(self) -> None:
        remove_garbage(self.store, self.rubbish)

    def as_json(self, *, removed: bool) -> dict[str, Any]:
        return {
            "store": str(self.store.root),
            "retained_runs": [str(run.folder) for run in self.runs if not run.gone],
            "rubbish": [{"path": str(one.path), "bytes": one.size, "why": one.why} for one in self.rubbish],
            "bytes": self.size,
            "removed": removed,
        }


def stores(runs: Sequence[Path]) -> dict[Path, list[Path]]:
    """Stores to clear, each with the run folders that were named for it.

    Without any: DISTILSCOPE_STORE, or where that is not set the stores of the runs in `runs`. Raises UsageError where
    there is none.
    """
    if not runs and os.environ.get("DISTILSCOPE_STORE"):
        return {store_folder(Path()): []}
    found: dict[Path, list[Path]] = {}
    for run in runs or sorted(place.parent for place in Path("runs").glob("*/store")):
        if not run.is_dir():
            raise UsageError(f"there is no folder {run}; give the one that `distilscope run` named")
        found.setdefault(store_folder(run), []).append(run)
    if not found:
        raise UsageError(
            "there is no run in the folder runs here, and DISTILSCOPE_STORE is not set; give a run's folder"
        )
    return found


@contextmanager
def looked_through(root: Path, named: Sequence[Path]) -> Iterator[Clearing]:
    """Looks a store through and keeps it locked, so that what was found stays true. `named` are runs that are kept in
    any case.

    Raises UsageError where nothing says what the store's runs need, so that nothing of it can be told from rubbish.
    """
    store = Store(root)
    if not root.is_dir():
        raise UsageError(f"there is no store at {root}; give a run's folder, or set DISTILSCOPE_STORE")
    with store.lock(sweep=False):
        runs = retained_runs(store)
        if not runs and not named:
            raise UsageError(
                f"no run has noted what it needs of {root}; name the folders of the runs that are to be kept"
            )
        needed = frozenset[str]().union(*(_needs(store, run) for run in named))
        yield Clearing(store, tuple(runs), tuple(find_garbage(store, runs, needed=needed)))


def _needs(store: Store, run: Path) -> frozenset[str]:
    """By its note; else, of a run that was finished before there were notes, by its results."""
    note = retained_run(store, run)
    return note.artifacts if note else artifact_names(recorded(run).targets)
