"""Where artifacts live: `ROOT/<kind>/<fingerprint>/`, each whole or absent.

`.partial/` holds folders being written, `.scratch/` what a step keeps across a crash, `.claims/` locks of steps being
worked on, `.runs/` what each run needs, `.logs/` text for people: no artifacts.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from distilscope.errors import StoreError, full_disk
from distilscope.pipeline.lock import holding, remove_released, take_lock
from distilscope.pipeline.manifest import NAME, Problem, check, read_manifest, require_sound, write_manifest
from distilscope.pipeline.step import JSON, Identity, Step
from distilscope.system.atomic_file import sync
from distilscope.system.atomic_folder import atomic_folder, remove

ORPHANS = 60.0
"""Seconds that a run waits for workers of an earlier one, on this machine or another, whose end is under way."""


class Store:
    """A folder of artifacts. Nothing is created on disk until something is written; a finished store can be
    read-only."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._handle: int | None = None
        self._holds = 0

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def path(self, step: Step | Identity) -> Path:
        """The step's artifact folder, whether or not it exists."""
        return self.root / step.kind / step.fingerprint

    def has(self, step: Step | Identity) -> bool:
        """Whether the artifact exists: it does iff its manifest does."""
        return (self.path(step) / NAME).is_file()

    def manifest(self, step: Step | Identity) -> dict[str, JSON]:
        """The artifact's manifest (its files are not hashed again). Raises StoreError if it is missing or cannot be
        trusted."""
        return read_manifest(self.path(step), step.fingerprint)

    @contextmanager
    def writing(self, step: Step | Identity, counts: Mapping[str, int | float | str] | None = None) -> Iterator[Path]:
        """A fresh folder to write the step's files into; when the block ends well it becomes the artifact, at once and
        durably.

        `counts` goes into the manifest; it is read when the block ends, so the block may fill it. If the block raises,
        the folder is removed and the error passes; a full disk becomes a StoreError. If another process was first, ours
        is discarded.
        """
        identity = step.identity if isinstance(step, Step) else step
        final = self.path(identity)
        with (
            self.speaking_plainly(f"writing the artifact of a step of kind {identity.kind!r}"),
            atomic_folder(
                final,
                draft=self.root / ".partial" / f"{identity.kind}-{identity.fingerprint[:16]}-{uuid.uuid4().hex}",
                finish=lambda draft: write_manifest(draft, identity, counts or {}),
                # A folder without a manifest is no artifact: the remains of one that somebody damaged.
                replaces=lambda: not (final / NAME).is_file(),
            ) as draft,
        ):
            yield draft
        shutil.rmtree(self._scratch(identity), ignore_errors=True)

    def scratch(self, step: Step | Identity) -> Path:
        """A folder that survives a crash, for what a step needs to resume; it goes when the artifact is finished."""
        place = self._scratch(step.identity if isinstance(step, Step) else step)
        with self.speaking_plainly("making a folder for checkpoints"):
            place.mkdir(parents=True, exist_ok=True)
        return place

    @contextmanager
    def claim(self, step: Step | Identity) -> Iterator[None]:
        """Inside, no other process works on this step: waits until one that does is done or dead.

        Where steps run on several machines, a second attempt may start while the first, cut off or just dying, still
        writes checkpoints.
        """
        place = self.root / ".claims"
        with self.speaking_plainly("claiming a step"):
            place.mkdir(parents=True, exist_ok=True)
        with holding(place / step.fingerprint):
            yield

    def holder(self) -> str:
        """Who holds the lock, as its file says; empty if it was never locked."""
        try:
            return (self.root / ".lock").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def await_artifact(self, folder: Path, *, patience: float = 60.0) -> None:
        """Waits until an artifact that another machine has finished is seen here: shared file systems tell of new files
        with delay.

        Raises StoreError if it is not seen after so many seconds.
        """
        deadline = time.monotonic() + patience
        while not (folder / NAME).is_file():
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the artifact {folder} was finished, but {socket.gethostname()} does not see it; put the store "
                    "in a folder that all "
                    "nodes share (DISTILSCOPE_STORE)"
                )
            for parent in (folder.parents[1], folder.parent):
                with suppress(OSError):
                    os.listdir(parent)  # asks the file server anew
            time.sleep(0.1)

    def logs(self) -> Path:
        """A folder for text that is for people."""
        place = self.root / ".logs"
        with self.speaking_plainly("making a folder for logs"):
            place.mkdir(parents=True, exist_ok=True)
        return place

    def verify(self, steps: Iterable[Step | Identity]) -> list[Problem]:
        """Hashes the artifacts of exactly these steps again: what is missing, extra, changed or unreadable, file by
        file."""
        return [problem for step in dict.fromkeys(steps) for problem in check(self.path(step))]

    def sound(self, step: Step | Identity) -> Path:
        """The artifact's folder, its files hashed again. Raises StoreError, naming the first one that is not as it was
        written."""
        return require_sound(self.path(step))

    def discard(self, path: Path) -> None:
        """Removes something in the store, out of sight first, so that it is never half there; of a link, the link
        alone."""
        doomed = self.root / ".partial" / f"removed-{uuid.uuid4().hex}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, doomed)
        sync(path.parent)
        remove(doomed)

    @contextmanager
    def lock(self, *, sweep: bool = True) -> Iterator[None]:
        """Keeps other runs from writing here; left-overs of crashed ones are removed (`sweep`). May be entered again by
        its holder.

        Raises StoreError, naming the process, if another live one holds it, or if a worker of a dead one does not end.
        """
        if not self._holds:
            with self.speaking_plainly("taking its lock"):
                self.root.mkdir(parents=True, exist_ok=True)
                self._handle = take_lock(self.root / ".lock")
        self._holds += 1
        try:
            if self._holds == 1 and sweep:
                self._sweep(patience=ORPHANS)
            yield
        finally:
            self._holds -= 1
            if not self._holds and self._handle is not None:
                if sweep:
                    self._sweep(patience=0.0)
                os.close(self._handle)
                self._handle = None

    @property
    def lock_handle(self) -> int | None:
        """The lock's file handle while held. A worker process inherits it, so that the lock lasts until the last writer
        is dead."""
        return self._handle

    def _scratch(self, identity: Identity) -> Path:
        return self.root / ".scratch" / identity.fingerprint

    def _sweep(self, *, patience: float) -> None:
        """Removes what only a crash leaves: half-written folders, and scratch whose artifact is finished. Needs the
        lock.

        With patience, waits so long for those who still write, and raises StoreError if they do not end; without,
        leaves their claims.
        """
        for claim in self.root.glob(".claims/*"):
            if not remove_released(claim, patience=patience) and patience:
                raise StoreError(
                    f"in the store {self.root} a worker of an earlier run is still at the step {claim.name[:12]}; "
                    "wait until it ends, "
                    "or stop it (a Ray cluster's with `ray stop` on its node), and run again"
                )
        shutil.rmtree(self.root / ".partial", ignore_errors=True)
        for left in self.root.glob(".scratch/*"):
            if next(self.root.glob(f"[!.]*/{left.name}/{NAME}"), None):
                shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def speaking_plainly(self, doing: str) -> Iterator[None]:
        """Turns what the operating system says about the disk into a StoreError with a remedy; other errors pass."""
        try:
            yield
        except Exception as error:
            if isinstance(error, StoreError):
                raise
            if (named := full_disk(error)) is not None:
                inside = not os.path.isabs(named) or Path(named).is_relative_to(self.root)
                place = self.root if inside else Path(named).parent
                raise StoreError(
                    f"the disk that holds {place} is full while {doing}; free some space there and run again: what "
                    "was finished is kept"
                ) from error
            if _refused(error, self.root):
                raise StoreError(
                    f"cannot write in {self.root} while {doing}: {error}; give a folder that can be written"
                ) from error
            raise


def _refused(error: BaseException, root: Path) -> bool:
    """Whether the system does not let us make the root, or write below it."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return False
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and root.is_relative_to(error.filename):
        return True
    return error.errno in (errno.EACCES, errno.EROFS) and (
        root.is_relative_to(error.filename) or Path(error.filename).is_relative_to(root)
    )
