"""Notes of the artifacts that each run needs, in `ROOT/.runs/`: garbage collection keeps what they name."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from distilscope.errors import StoreError, shown
from distilscope.pipeline.checksummed_json import MAX_CHARACTERS, dump_checksummed, load_checksummed
from distilscope.pipeline.step import KIND, Step
from distilscope.pipeline.store import Store
from distilscope.system.atomic_file import write_atomic

_ARTIFACT = re.compile(f"{KIND.pattern}/[0-9a-f]{{64}}")


@dataclass(frozen=True)
class RetainedRun:
    """A run's note: its folder, its host, and the artifacts it needs, each "kind/fingerprint" as below the root."""

    file: Path
    folder: Path
    host: str
    artifacts: frozenset[str]

    @property
    def gone(self) -> bool:
        """Whether the run's folder was certainly removed: it is missing on its own host, and the folder above exists.

        A disk that is not mounted, or one of another machine, does not count as removed.
        """
        return self.host == socket.gethostname() and not self.folder.exists() and self.folder.parent.is_dir()


def artifact_names(steps: Iterable[Step]) -> frozenset[str]:
    """The names "kind/fingerprint" of the steps' artifacts."""
    return frozenset(f"{step.kind}/{step.fingerprint}" for step in steps)


@contextmanager
def retaining(store: Store, folder: Path, steps: Iterable[Step]) -> Iterator[None]:
    """Note what the run in `folder` needs: inside the block in addition to what its earlier note says, then alone.

    Until the block ends, the folder holds the results of the earlier run, whose artifacts must not be removed. Takes
    the store's lock where the note changes. A store that cannot be written gets no note; nothing can be removed there.
    """
    needs = artifact_names(steps)
    _note(store, folder, needs, and_before=True)
    yield
    with suppress(StoreError):  # another run has taken the lock; the note then names more than is needed
        _note(store, folder, needs, and_before=False)


def _note(store: Store, folder: Path, needs: frozenset[str], *, and_before: bool) -> None:
    file, earlier = _file(store, folder), None
    with suppress(StoreError):  # a note that cannot be read is written anew
        earlier = _read(store, file).artifacts if file.is_file() else None
    if and_before and earlier:
        needs |= earlier
    if needs == earlier or (store.root.exists() and not os.access(store.root, os.W_OK)):
        return
    with store.lock(), store.explaining_disk_errors("noting what the run needs"):
        file.parent.mkdir(exist_ok=True)
        record = {"folder": _place(store, folder), "host": socket.gethostname(), "artifacts": sorted(needs)}
        write_atomic(file, dump_checksummed(record))


def retained_run(store: Store, folder: Path) -> RetainedRun | None:
    """The note of the run in a folder; None if there is none."""
    file = _file(store, folder)
    return _read(store, file) if file.is_file() else None


def retained_runs(store: Store) -> list[RetainedRun]:
    """All notes. Raises StoreError for one that cannot be read, since what that run needs is then unknown."""
    return [_read(store, file) for file in sorted((store.root / ".runs").glob("[!.]*.json"))]


def _file(store: Store, folder: Path) -> Path:
    return store.root / ".runs" / f"{hashlib.sha256(os.fsencode(_place(store, folder))).hexdigest()[:16]}.json"


def _place(store: Store, folder: Path) -> str:
    """The run's folder, absolute; but relative to a store inside it, so that the two may move together."""
    place, root = folder.absolute().resolve(), store.root.resolve()
    return os.path.relpath(place, root) if root.is_relative_to(place) else str(place)


def _read(store: Store, file: Path) -> RetainedRun:
    try:
        with file.open(encoding="ascii", newline="") as text:
            record = load_checksummed(text.read(MAX_CHARACTERS + 1))
        artifacts = frozenset(record["artifacts"])
        if wrong := next((name for name in artifacts if not _ARTIFACT.fullmatch(name)), None):
            raise ValueError(f"{shown(wrong)} names no artifact")
        return RetainedRun(
            file, Path(os.path.normpath(store.root.resolve() / record["folder"])), record["host"], artifacts
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{file}: what this run needs cannot be read ({error}); give its `distilscope run` command again, or "
            "remove the file"
        ) from None
