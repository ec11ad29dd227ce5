"""The store of artifacts: `ROOT/<kind>/<fingerprint>/`, each whole or absent.

Folders that hold no artifacts: `.partial/` has folders being written, `.scratch/` what a step keeps across a crash,
`.claims/` a lock for each running step, `.runs/` the names of the artifacts that each run needs, `.logs/` logs.
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
from distilscope.pipeline.lock import exclusive_lock, remove_if_released, take_lock
from distilscope.pipeline.manifest import MANIFEST, Problem, check, read_manifest, require_sound, write_manifest
from distilscope.pipeline.step import JSON, Identity, Step
from distilscope.system.atomic_file import sync
from distilscope.system.atomic_folder import atomic_folder, remove

ORPHAN_PATIENCE = 60.0
"""Seconds that a run waits for workers of an earlier run, on any machine, that are just ending."""


class Store:
    """A folder of artifacts. Nothing is created until something is written; a finished store can be read-only."""

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
        """Whether the artifact exists. It does iff its manifest does, since the manifest is written last."""
        return (self.path(step) / MANIFEST).is_file()

    def manifest(self, step: Step | Identity) -> dict[str, JSON]:
        """The artifact's manifest; files are not hashed again. Raises StoreError if it is missing or was changed."""
        return read_manifest(self.path(step), step.fingerprint)

    @contextmanager
    def writing(self, step: Step | Identity, counts: Mapping[str, int | float | str] | None = None) -> Iterator[Path]:
        """Yield a fresh folder for the step's files; when the block ends well it becomes the artifact, durably.

        `counts` goes into the manifest; it is read when the block ends, so the block may fill it. If the block raises,
        the folder is removed and the error passes; a full disk becomes a StoreError. If another process has made the
        artifact meanwhile, that one is kept.
        """
        identity = step.identity if isinstance(step, Step) else step
        final = self.path(identity)
        with (
            self.explaining_disk_errors(f"writing the artifact of a step of kind {identity.kind!r}"),
            atomic_folder(
                final,
                draft=self.root / ".partial" / f"{identity.kind}-{identity.fingerprint[:16]}-{uuid.uuid4().hex}",
                finish=lambda draft: write_manifest(draft, identity, counts or {}),
                # A folder without a manifest is no artifact: the remains of one that somebody damaged.
                replaces=lambda: not (final / MANIFEST).is_file(),
            ) as draft,
        ):
            yield draft
        shutil.rmtree(self._scratch(identity), ignore_errors=True)

    def scratch(self, step: Step | Identity) -> Path:
        """Make the folder for what a step needs to resume. It survives a crash, until the artifact is finished."""
        place = self._scratch(step.identity if isinstance(step, Step) else step)
        with self.explaining_disk_errors("making a folder for checkpoints"):
            place.mkdir(parents=True, exist_ok=True)
        return place

    @contextmanager
    def claim(self, step: Step | Identity) -> Iterator[None]:
        """Keep other processes from this step inside the block; first wait until one at it is done or dead.

        Where steps run on several machines, a second attempt may start while the first one, on a machine that is cut
        off or just dying, still writes checkpoints.
        """
        place = self.root / ".claims"
        with self.explaining_disk_errors("claiming a step"):
            place.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(place / step.fingerprint):
            yield

    def holder(self) -> str:
        """The content of the lock's file: who holds the lock, or held it last; empty if nobody ever did."""
        try:
            return (self.root / ".lock").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def await_artifact(self, folder: Path, *, patience: float = 60.0) -> None:
        """Wait until an artifact that another machine has finished is visible here, which a shared file system delays.

        Raises StoreError if it is not visible after `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while not (folder / MANIFEST).is_file():
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the artifact {folder} was finished, but {socket.gethostname()} does not see it; put the store "
                    "in a folder that all "
                    "nodes share (DISTILSCOPE_STORE)"
                )
            for parent in (folder.parents[1], folder.parent):
                with suppress(OSError):
                    os.listdir(parent)  # makes the client of a network file system ask its server again
            time.sleep(0.1)

    def logs(self) -> Path:
        """Make the folder of logs."""
        place = self.root / ".logs"
        with self.explaining_disk_errors("making a folder for logs"):
            place.mkdir(parents=True, exist_ok=True)
        return place

    def verify(self, steps: Iterable[Step | Identity]) -> list[Problem]:
        """Hash the artifacts of exactly these steps again; list files that are missing, extra or changed."""
        return [problem for step in dict.fromkeys(steps) for problem in check(self.path(step))]

    def sound(self, step: Step | Identity) -> Path:
        """The artifact's folder, after hashing its files. Raises StoreError, naming the first that was changed."""
        return require_sound(self.path(step))

    def discard(self, path: Path) -> None:
        """Remove something in the store; of a link, the link alone.

        It is renamed into `.partial/` first, so that a crash never leaves half an artifact in an artifact's place.
        """
        doomed = self.root / ".partial" / f"removed-{uuid.uuid4().hex}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, doomed)
        sync(path.parent)
        remove(doomed)

    @contextmanager
    def lock(self, *, sweep: bool = True) -> Iterator[None]:
        """Keep other runs from writing here; its holder may enter it again. `sweep` removes what crashed runs left.

        Raises StoreError, naming the process, if another live run holds it, or if a worker of a dead run does not end.
        """
        if not self._holds:
            with self.explaining_disk_errors("taking its lock"):
                self.root.mkdir(parents=True, exist_ok=True)
                self._handle = take_lock(self.root / ".lock")
        self._holds += 1
        try:
            if self._holds == 1 and sweep:
                self._sweep(patience=ORPHAN_PATIENCE)
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
        """The lock's open handle, while it is held. Workers inherit it, so it lasts until the last one is dead."""
        return self._handle

    def _scratch(self, identity: Identity) -> Path:
        return self.root / ".scratch" / identity.fingerprint

    def _sweep(self, *, patience: float) -> None:
        """Remove what crashed runs left: half-written folders, and scratch of finished artifacts. Needs the lock.

        Waits `patience` seconds for workers that still hold a claim, and raises StoreError if they do not end. With a
        patience of 0 their claims are left.
        """
        for claim in self.root.glob(".claims/*"):
            # The store's lock shows that no run is alive, but not its workers on other machines: their claims do.
            if not remove_if_released(claim, patience=patience) and patience:
                raise StoreError(
                    f"in the store {self.root} a worker of an earlier run is still at the step {claim.name[:12]}; "
                    "wait until it ends, "
                    "or stop it (a Ray cluster's with `ray stop` on its node), and run again"
                )
        shutil.rmtree(self.root / ".partial", ignore_errors=True)
        # The scratch of an unfinished step stays: the next run resumes from it.
        for left in self.root.glob(".scratch/*"):
            if next(self.root.glob(f"[!.]*/{left.name}/{MANIFEST}"), None):
                shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def explaining_disk_errors(self, doing: str) -> Iterator[None]:
        """Turn errors of a full or read-only disk into a StoreError with a remedy; other errors pass."""
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
    """Whether the system refused to make the root or to write below it."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return False
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and root.is_relative_to(error.filename):
        return True
    return error.errno in (errno.EACCES, errno.EROFS) and (
        root.is_relative_to(error.filename) or Path(error.filename).is_relative_to(root)
    )
