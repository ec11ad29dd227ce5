"""Which runs a store works for: each notes which artifacts it needs, in `ROOT/.runs/`, so that nothing they need is
removed."""

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
from distilscope.pipeline.checksummed_json import LARGEST, sealed, unsealed
from distilscope.pipeline.step import KIND, Step
from distilscope.pipeline.store import Store
from distilscope.system.atomic_file import write_atomic

_ARTIFACT = re.compile(f"{KIND.pattern}/[0-9a-f]{{64}}")


@dataclass(frozen=True)
class KeptRun:
    """A run's note: its folder, the host it was on, and the artifacts it needs, each "kind/fingerprint" below the
    store's root."""

    file: Path
    folder: Path
    host: str
    artifacts: frozenset[str]

    @property
    def gone(self) -> bool:
        """Whether its folder was surely removed: missing on the host that made it, where the folder above is there.

        A disk that is not mounted, or another machine's, is no reason to think so.
        """
        return self.host == socket.gethostname() and not self.folder.exists() and self.folder.parent.is_dir()


def names(steps: Iterable[Step]) -> frozenset[str]:
    return frozenset(f"{step.kind}/{step.fingerprint}" for step in steps)


@contextmanager
def keeping(store: Store, folder: Path, steps: Iterable[Step]) -> Iterator[None]:
    """Notes what the run in `folder` needs: at first beside what its note says already, since its earlier results still
    stand.

    Takes the store's lock where the note changes. A store that cannot be written has no note, and needs none.
    """
    needs = names(steps)
    _note(store, folder, needs, and_before=True)
    yield
    with suppress(StoreError):  # another run has the lock by now; this one's note then says more than it needs
        _note(store, folder, needs, and_before=False)


def _note(store: Store, folder: Path, needs: frozenset[str], *, and_before: bool) -> None:
    file, earlier = _file(store, folder), None
    with suppress(StoreError):  # one that cannot be read is written anew
        earlier = _read(store, file).artifacts if file.is_file() else None
    if and_before and earlier:
        needs |= earlier
    if needs == earlier or (store.root.exists() and not os.access(store.root, os.W_OK)):
        return
    with store.lock(), store.speaking_plainly("noting what the run needs"):
        file.parent.mkdir(exist_ok=True)
        record = {"folder": _place(store, folder), "host": socket.gethostname(), "artifacts": sorted(needs)}
        write_atomic(file, sealed(record))


def kept_run(store: Store, folder: Path) -> KeptRun | None:
    """The note of the run in a folder, if it left one."""
    file = _file(store, folder)
    return _read(store, file) if file.is_file() else None


def kept_runs(store: Store) -> list[KeptRun]:
    """Every note. Raises StoreError for one that cannot be read: what that run needs is then unknown."""
    return [_read(store, file) for file in sorted((store.root / ".runs").glob("[!.]*.json"))]


def _file(store: Store, folder: Path) -> Path:
    return store.root / ".runs" / f"{hashlib.sha256(os.fsencode(_place(store, folder))).hexdigest()[:16]}.json"


def _place(store: Store, folder: Path) -> str:
    """Absolute; but from the store's root where the store lies in the run's folder, so that the two may move
    together."""
    place, root = folder.absolute().resolve(), store.root.resolve()
    return os.path.relpath(place, root) if root.is_relative_to(place) else str(place)


def _read(store: Store, file: Path) -> KeptRun:
    try:
        with file.open(encoding="ascii", newline="") as text:
            record = unsealed(text.read(LARGEST + 1))
        artifacts = frozenset(record["artifacts"])
        if wrong := next((name for name in artifacts if not _ARTIFACT.fullmatch(name)), None):
            raise ValueError(f"{shown(wrong)} names no artifact")
        return KeptRun(file, Path(os.path.normpath(store.root.resolve() / record["folder"])), record["host"], artifacts)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{file}: what this run needs cannot be read ({error}); give its `distilscope run` command again, or "
            "remove the file"
        ) from None
