"""Where tasks run. An engine takes tasks and hands back receipts; which task is next is not its business."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from distilscope.errors import DistilscopeError
from distilscope.pipeline.step import Needs
from distilscope.pipeline.task import Receipt, Task

MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_ARENA_MAX": "1",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}
"""glibc hands large arrays out again instead of returning them to the kernel, where each costs a page fault per 4 KiB;
an arena of a thread's own would return them all the same. A library that keeps code for every shape of matrix it has
met keeps it for 256 (of 1024): a training on sequences of all lengths meets some hundred shapes and is 3% slower with
64, other work meets ever new ones."""


class WorkerDiedError(DistilscopeError):
    """A process died under the step it ran; the same task may be submitted again."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def threads(number: int) -> dict[str, str]:
    """The environment that a process must start with to compute with so many threads."""
    return {f"{library}_NUM_THREADS": str(number) for library in ("OMP", "MKL", "OPENBLAS")}


@runtime_checkable
class Engine(Protocol):
    """Runs tasks side by side, on `slots` cores. A context manager: leaving it ends whatever still runs.

    That is at once, but where the run was told to end (SIGTERM, Ctrl-C), steps under way may first keep a checkpoint.
    """

    slots: int

    def takes(self, needs: Needs) -> bool:
        """Whether a step with these needs may be submitted now. Raises DistilscopeError if it never may."""
        ...

    def submit(self, task: Task) -> None:
        """Starts a task, or queues it; called only right after `takes` has said yes."""
        ...

    def collect(self, timeout: float) -> Sequence[Receipt]:
        """Receipts that have come in, waiting up to `timeout` seconds for the first. A dead process comes as a
        WorkerDiedError."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exception: object) -> None: ...
