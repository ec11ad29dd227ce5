"""A worker process: performs the tasks its parent sends, one at a time, and never outlives it."""

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
    """The worker's whole life. Both handles were inherited; the lock is only held, so that it lasts as long as we
    do."""
    for handle in (connection_handle, lock_handle):
        os.set_inheritable(handle, False)
    connection = Connection(connection_handle)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    while True:
        connection.send(perform(tasks.get()))
        give_memory_back()


def give_memory_back() -> None:
    """Between steps only: within one, freed arrays are kept for the next of their size (see `engine`)."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _listen(connection: Connection, tasks: queue.SimpleQueue[Task]) -> None:
    """Reads in a thread of its own, so that the end of the parent is noticed in the middle of a step too."""
    while True:
        try:
            tasks.put(connection.recv())
        except Exception:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)  # the processes a step has started go with us
            os._exit(1)
