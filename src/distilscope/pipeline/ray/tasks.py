"""The function that Ray runs in a worker process: it performs tasks against the store that all nodes share."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from distilscope.errors import DistilscopeError, StoppedError
from distilscope.pipeline.manifest import versions
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Receipt, Task, perform
from distilscope.pipeline.worker import return_free_memory


@dataclass(frozen=True)
class Driver:
    """What the process that sends tasks (Ray's driver) must have in common with the workers on every machine."""

    holder: str
    """Content of the store's lock, which shows whether a worker sees the same store."""
    versions: tuple[tuple[str, str | None], ...]
    """Versions of the packages that could change a result."""

    @classmethod
    def of(cls, store: Store) -> Driver:
        """This process, which holds the store's lock."""
        return cls(store.holder(), tuple(versions().items()))


def perform_all(tasks: Sequence[Task], driver: Driver) -> list[Receipt]:
    """Perform tasks of one store one after another, up to the first that fails, and return their receipts.

    A node that is shut down sends SIGTERM to its processes. It ends this one, and Ray starts the tasks again on another
    node; those that are done are found in the store.
    """
    store = Store(tasks[0].root)
    receipts: list[Receipt] = []
    try:
        _require_same(store.root, driver)
        with _printing_to(store.logs() / f"ray-{socket.gethostname()}-{os.getpid()}.log"), _leaving_on_sigterm():
            for task in tasks:
                for folder in task.inputs.values():
                    store.await_artifact(Path(folder))
                receipts.append(perform(task))
                if isinstance(receipts[-1].error, StoppedError):
                    _leave()  # SIGTERM was for this process, not for the run: another resumes from the checkpoint
                return_free_memory()
                if receipts[-1].error is not None:
                    break
    except DistilscopeError as refusal:
        receipts.append(Receipt(tasks[len(receipts)].identity.fingerprint, error=refusal))
    return receipts


@cache
def _require_same(root: Path, driver: Driver) -> None:
    """Raise DistilscopeError unless this node has the driver's store and versions. Checked once per worker."""
    node = socket.gethostname()
    if Store(root).holder() != driver.holder:
        raise DistilscopeError(
            f"the store {root} on the Ray node {node} is not the one that this run has locked; "
            "put it in a folder that all nodes share (DISTILSCOPE_STORE)"
        )
    here = versions()
    for name, version in driver.versions:
        if here[name] != version:
            raise DistilscopeError(
                f"the Ray node {node} has {name} {here[name] or 'not installed'}, but this run has "
                f"{version or 'none'}, "
                "and results must not depend on the node; install the same everywhere"
            )


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process at once; Ray's handler would raise an error in the middle of a step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> None:
    os._exit(128 + signal.SIGTERM)


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to a log in the store; Ray's logs are lost with the node."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        for stream in (1, 2):
            os.dup2(handle, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)
        os.close(handle)
