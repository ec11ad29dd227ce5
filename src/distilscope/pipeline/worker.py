"""The main loop of a worker process, which runs the tasks of its parent one at a time and ends with it."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from distilscope.pipeline.task import Task, perform


def serve(connection_handle: int, lock_handle: int) -> None:
    """Run tasks from the connection until the parent is gone.

    Both handles were inherited. The store's lock is only held: it must last until the last process that writes is dead.
    """
    for handle in (connection_handle, lock_handle):
        os.set_inheritable(handle, False)  # a process that a step starts must not keep lock or pipe open after us
    connection = Connection(connection_handle)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    while True:
        connection.send(perform(tasks.get()))
        return_free_memory()


def return_free_memory() -> None:
    """Return freed memory to the kernel. Between steps only: within a step, `ALLOCATOR_SETTINGS` keeps it for reuse."""
    with suppress(OSError, AttributeError):  # other C libraries than glibc lack it
        ctypes.CDLL(None).malloc_trim(0)


def _listen(connection: Connection, tasks: queue.SimpleQueue[Task]) -> None:
    """Receive tasks in a thread, so that the parent's end is noticed even in the middle of a step."""
    while True:
        try:
            tasks.put(connection.recv())
        except Exception:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)  # with us end the processes that a step has started
            os._exit(1)
