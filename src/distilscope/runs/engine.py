"""Where tasks run. An engine takes tasks and hands back receipts; which task is next is not its business."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol, runtime_checkable

from distilscope.errors import DistilscopeError, UsageError
from distilscope.runs.step import Needs
from distilscope.runs.stopping import not_now
from distilscope.runs.store import Store
from distilscope.runs.task import Receipt, Task

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from distilscope.runs.worker import serve; serve(*map(int, sys.argv[1:3]))"
)


MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 33), "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""glibc hands large arrays out again instead of returning them to the kernel, where each costs a page fault per 4 KiB; a library
that keeps code for every shape of matrix it has met keeps it for 64 (of 1024), which saved 300 MB per worker and no time."""


PATIENCE = 25.0
"""Seconds from the request to end (SIGTERM, by which a training saves a checkpoint and anything else dies) to the kill. Slurm gives 30."""


def threads(number: int) -> dict[str, str]:
    """The environment that a process must start with to compute with so many threads."""
    return {f"{library}_NUM_THREADS": str(number) for library in ("OMP", "MKL", "OPENBLAS")}


@runtime_checkable
class Engine(Protocol):
    """Runs tasks side by side, on `slots` cores. A context manager: leaving it ends whatever still runs, at once or after a checkpoint."""

    slots: int

    def takes(self, needs: Needs) -> bool:
        """Whether a step with these needs may be submitted now. Raises DistilscopeError if it never may."""
        ...

    def submit(self, task: Task) -> None:
        """Starts a task, or queues it; called only right after `takes` has said yes."""
        ...

    def collect(self, timeout: float) -> Sequence[Receipt]:
        """Receipts that have come in, waiting up to `timeout` seconds for the first. Raises DistilscopeError if a process died."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exception: object) -> None: ...


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path
    threads: int
    task: Task | None = None


class LocalProcesses:
    """Worker processes on this machine, started as they are needed, each serving many tasks of its number of threads.

    What runs at once never has more threads than `slots`, in all its processes together. GPUs are not handed out here.

    They are started by hand and not by `multiprocessing`, whose spawned children run the caller's main script again: here a
    script that calls `distilscope.run` needs no `if __name__ == "__main__"`. A worker leads a process group of its own (Ctrl-C reaches the
    main process alone, and what a step starts ends with it), exits when its pipe to us closes, however we end, and sees its threads before
    any library is imported. What it prints goes to a log: standard output is the caller's.
    """

    def __init__(self, store: Store, *, slots: int) -> None:
        """The caller holds the store's lock. Raises ValueError unless there is at least one slot."""
        if slots < 1:
            raise ValueError(f"{slots} workers; there is at least 1")
        self.slots = slots
        self._store = store
        self._workers: list[_Worker] = []
        self._started = 0

    def __enter__(self) -> LocalProcesses:
        return self

    def takes(self, needs: Needs) -> bool:
        if needs.cores > self.slots:
            raise UsageError(
                f"a step computes in {needs.processes} processes with {needs.threads} threads, but {self.slots} cores may be busy at once; "
                "allow more (--workers), run on a machine with more cores, or lower training.processes"
            )
        return sum(worker.task.needs.cores for worker in self._workers if worker.task) + needs.cores <= self.slots

    def submit(self, task: Task) -> None:
        number = task.needs.threads
        for worker in [worker for worker in self._workers if worker.task is None and worker.threads == number]:
            with suppress(OSError):  # it died while idle: nothing is lost, take another
                worker.connection.send(task)
                worker.task = task
                return
            self._end(worker)
        for worker in [worker for worker in self._workers if worker.task is None]:  # of other threads: they make room, memory above all
            if sum(each.threads for each in self._workers) + number > self.slots:
                self._end(worker)
        with not_now():
            worker = self._start(number)
            self._workers.append(worker)
        worker.task = task
        with suppress(OSError):  # it died at once: `collect` says so
            worker.connection.send(task)

    def collect(self, timeout: float) -> Sequence[Receipt]:
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        receipts: list[Receipt] = []
        dead: list[_Worker] = []
        for ready in wait(list(busy), timeout):
            worker = busy[ready]  # type: ignore[index]
            try:
                receipts.append(worker.connection.recv())
                worker.task = None
            except (EOFError, OSError):
                dead.append(worker)
        # A process started by the step can hold the pipe open after the worker itself is dead.
        dead += [
            worker for worker in busy.values() if worker not in dead and worker.process.poll() is not None and not worker.connection.poll()
        ]
        if dead and not receipts:  # what is finished is reported first; the dead stay dead
            raise self._death(dead[0])
        return receipts

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + PATIENCE
        for worker in list(self._workers):
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            self._end(worker)

    def _start(self, number: int) -> _Worker:
        """A worker with so many threads."""
        ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
        handle = self._store.lock_handle
        if handle is None:
            raise ValueError("worker processes need the store's lock; enter `store.lock()` first")
        log = self._store.logs() / f"worker-{self._started}.log"
        self._started += 1
        arguments = [str(theirs.fileno()), str(handle), json.dumps(sys.path)]
        try:
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=MEMORY | os.environ | threads(number),
                    pass_fds=(theirs.fileno(), handle),
                    process_group=0,
                )
        except OSError as error:
            ours.close()
            raise DistilscopeError(
                f"could not start a worker process ({error}); use fewer workers, or free memory and disk space"
            ) from error
        finally:
            theirs.close()
        return _Worker(process, ours, log, number)

    def _end(self, worker: _Worker) -> None:
        """Kills, since a step can stand a kill at any moment."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.kill()
        worker.process.wait()
        worker.connection.close()
        self._workers.remove(worker)
        with suppress(OSError):
            if worker.log.stat().st_size == 0:
                worker.log.unlink()

    def _death(self, worker: _Worker) -> DistilscopeError:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)  # what the step had started
        code = worker.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        name = worker.task.name if worker.task else "idle"
        return DistilscopeError(
            f"a worker process died while running the step {name} ({how}); likely out of memory: use fewer workers or "
            f"smaller sizes and run again (what was finished is kept). What it printed is in {worker.log}"
        )
