"""The engine protocol: an engine runs tasks and returns receipts. `execute` decides which task is next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from distilscope.errors import DistilscopeError
from distilscope.pipeline.step import Needs
from distilscope.pipeline.task import Receipt, Task

ALLOCATOR_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_ARENA_MAX": "1",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}
"""Environment variables of every worker process.

With the thresholds, glibc reuses the memory of freed large arrays. By default it would return it to the kernel, and the
next array would cost a page fault per 4 KiB. Memory of a second malloc arena would be returned in spite of them, so
there is one arena. oneDNN keeps compiled code for each matrix shape it has met, by default for 1024 shapes. Training on
sequences of all lengths meets some hundred shapes (with 64 it is 3% slower), other work meets ever new ones, whose code
would only fill memory: hence 256."""


class WorkerDiedError(DistilscopeError):
    """A worker process died while it ran a step; the same task may be submitted again."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def thread_settings(number: int) -> dict[str, str]:
    """Environment variables that give a process this number of threads.

    They must be set before the process starts: the libraries read them once, when they are loaded.
    """
    return {f"{library}_NUM_THREADS": str(number) for library in ("OMP", "MKL", "OPENBLAS")}


@runtime_checkable
class Engine(Protocol):
    """Runs tasks in parallel on `slots` cores. A context manager: leaving it ends the tasks that still run.

    They end at once, except after SIGTERM or Ctrl-C: then running steps may save a checkpoint first.
    """

    slots: int

    def takes(self, needs: Needs) -> bool:
        """Whether a step with these needs can be submitted now. Raises DistilscopeError if it can never run here."""
        ...

    def submit(self, task: Task) -> None:
        """Start a task, or queue it. Called only directly after `takes` returned True."""
        ...

    def collect(self, timeout: float) -> Sequence[Receipt]:
        """Receipts that have arrived, waiting up to `timeout` seconds for the first one.

        A process that died is reported as a receipt whose error is a WorkerDiedError.
        """
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exception: object) -> None: ...
