"""The engine that runs steps in worker processes on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from distilscope.errors import DistilscopeError, StoppedError, UsageError
from distilscope.pipeline.engine import ALLOCATOR_SETTINGS, WorkerDiedError, thread_settings
from distilscope.pipeline.step import Needs
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Receipt, Task
from distilscope.system.redaction import without_secrets
from distilscope.system.signals import defer_exit

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from distilscope.pipeline.worker import serve; serve(*map(int, sys.argv[1:3]))"
)

PATIENCE = 20.0
"""Seconds that running steps may take to save a checkpoint after SIGTERM or Ctrl-C."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path
    threads: int
    task: Task | None = None


class LocalEngine:
    """Runs tasks in worker processes, started as needed. A worker runs many tasks, all of its number of threads.

    Tasks that run at once never have more than `slots` threads, in all processes together. GPUs are not managed here.

    Workers are started with `subprocess`, not with `multiprocessing`: the children that the latter spawns run the
    caller's main script again, so a script that calls `distilscope.run` would need `if __name__ == "__main__"`. Each
    worker leads a process group of its own: Ctrl-C reaches the main process alone, and what a step starts ends with the
    worker. It exits when its pipe to us closes, however we end. Its number of threads is set before any library is
    imported. What it prints goes to a log, since standard output belongs to the caller.
    """

    def __init__(self, store: Store, *, slots: int) -> None:
        """The caller holds the store's lock. Raises ValueError unless there is at least one slot."""
        if slots < 1:
            raise ValueError(f"{slots} workers; there is at least 1")
        self.slots = slots
        self._store = store
        self._workers: list[_Worker] = []
        self._started = 0

    def __enter__(self) -> LocalEngine:
        return self

    def takes(self, needs: Needs) -> bool:
        if needs.cores > self.slots:
            raise UsageError(
                f"a step computes in {needs.processes} processes with {needs.threads} threads, but {self.slots} cores "
                "may be busy at once; "
                "allow more (--workers), run on a machine with more cores, or lower training.processes"
            )
        return sum(worker.task.needs.cores for worker in self._workers if worker.task) + needs.cores <= self.slots

    def submit(self, task: Task) -> None:
        number = task.needs.threads
        for worker in [worker for worker in self._workers if worker.task is None and worker.threads == number]:
            with suppress(OSError):  # it died while idle: no work is lost, and another takes the task
                worker.connection.send(task)
                worker.task = task
                return
            self._end(worker)
        # Idle workers of another number of threads end where slots are short: they hold memory.
        for worker in [worker for worker in self._workers if worker.task is None]:
            if sum(each.threads for each in self._workers) + number > self.slots:
                self._end(worker)
        with defer_exit():  # a SIGTERM between the two lines would leave a worker that nobody ends
            worker = self._start(number)
            self._workers.append(worker)
        worker.task = task
        with suppress(OSError):  # it died at once: `collect` reports it
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
        # A process started by the step can hold the pipe open after the worker itself died, so EOF never comes.
        dead += [
            worker
            for worker in busy.values()
            if worker not in dead and worker.process.poll() is not None and not worker.connection.poll()
        ]
        return receipts + [self._death(worker) for worker in dead]

    def __exit__(self, *exception: object) -> None:
        try:
            if isinstance(exception[1], SystemExit | KeyboardInterrupt | StoppedError):
                self._let_them_keep_checkpoints()
        finally:
            for worker in list(self._workers):
                self._end(worker)

    def _let_them_keep_checkpoints(self) -> None:
        """Send SIGTERM to busy workers and wait for their last receipts. A step that does not handle it just dies."""
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        for worker in busy.values():
            worker.process.send_signal(signal.SIGTERM)
        # Rounds are counted, not timed: while a job is suspended the clock runs, but its steps cannot save anything.
        for _ in range(round(PATIENCE / 0.25)):
            for ready in wait(list(busy), 0.25):
                del busy[ready]  # type: ignore[index]
            if not busy:
                return

    def _start(self, number: int) -> _Worker:
        """Start a worker whose libraries compute with this number of threads."""
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
                    # Unbuffered (-u): a worker ends by SIGKILL, and what it printed has to be in the log by then.
                    [sys.executable, "-u", "-c", _BOOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=ALLOCATOR_SETTINGS | without_secrets(os.environ) | thread_settings(number),
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
        """Kill a worker with all that its step started. A step resumes from its scratch."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.kill()
        worker.process.wait()
        worker.connection.close()
        self._workers.remove(worker)
        with suppress(OSError):
            if worker.log.stat().st_size == 0:
                worker.log.unlink()

    def _death(self, worker: _Worker) -> Receipt:
        """A receipt that says how the worker died."""
        assert worker.task is not None
        self._end(worker)  # what the step had started may still run
        code = worker.process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        printed = f". What it printed is in {worker.log}" if worker.log.exists() else ""
        error = WorkerDiedError(
            f"a worker process died while running the step {worker.task.name} ({how})",
            (
                "likely out of memory: use fewer workers or smaller sizes and run again (what was finished is "
                f"kept){printed}"
            ),
        )
        return Receipt(worker.task.identity.fingerprint, error=error)
