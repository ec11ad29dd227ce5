"""What a worker process of a Ray cluster does: the tasks it is given, against a store that it shares with whoever sent
them."""

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
from distilscope.pipeline.worker import give_memory_back


@dataclass(frozen=True)
class Sender:
    """The process that sends tasks, as its workers on any machine must find it."""

    holder: str
    """What the store's lock says of it."""
    versions: tuple[tuple[str, str | None], ...]
    """Of what could change a result."""

    @classmethod
    def of(cls, store: Store) -> Sender:
        return cls(store.holder(), tuple(versions().items()))


def perform_all(tasks: Sequence[Task], sender: Sender) -> list[Receipt]:
    """Receipts of tasks of one store, done one after another, up to the first that fails.

    SIGTERM, by which a node that is shut down ends its processes, ends this one: Ray then starts what is not done again
    elsewhere.
    """
    store = Store(tasks[0].root)
    receipts: list[Receipt] = []
    try:
        _require_same(store.root, sender)
        with _printing_to(store.logs() / f"ray-{socket.gethostname()}-{os.getpid()}.log"), _leaving_on_sigterm():
            for task in tasks:
                for folder in task.inputs.values():
                    store.await_artifact(Path(folder))
                receipts.append(perform(task))
                if isinstance(
                    receipts[-1].error, StoppedError
                ):  # this process was told to end, not the run; the checkpoint is kept
                    _leave()
                give_memory_back()
                if receipts[-1].error is not None:
                    break
    except DistilscopeError as refusal:
        receipts.append(Receipt(tasks[len(receipts)].identity.fingerprint, error=refusal))
    return receipts


@cache
def _require_same(root: Path, sender: Sender) -> None:
    """Raises DistilscopeError if this machine has another store or other versions than the sender; looks once in a
    worker's life."""
    node = socket.gethostname()
    if Store(root).holder() != sender.holder:
        raise DistilscopeError(
            f"the store {root} on the Ray node {node} is not the one that this run has locked; "
            "put it in a folder that all nodes share (DISTILSCOPE_STORE)"
        )
    here = versions()
    for name, version in sender.versions:
        if here[name] != version:
            raise DistilscopeError(
                f"the Ray node {node} has {name} {here[name] or 'not installed'}, but this run has "
                f"{version or 'none'}, "
                "and results must not depend on the node; install the same everywhere"
            )


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends the process on the spot, where Ray's handler would raise an error in the middle of the
    step."""
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
    """Inside, what this process and its children print goes to the log, in the store: Ray's own files are on the node
    and go with it."""
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
