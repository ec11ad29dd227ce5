"""File locks that the kernel releases when their holder dies.

One lock lets a single run write a store, others a single process work on a step.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distilscope.errors import StoreError
from distilscope.system.redaction import redacted

PATIENCE = 5.0
"""Seconds to wait for a lock whose holder is dead: its workers inherited the lock and may still be exiting."""


def take_lock(path: Path, *, patience: float = PATIENCE) -> int:
    """Lock the file, write this process's id, host and command into it, and return the open handle.

    Closing the handle, in this process and in those that inherited it, releases the lock. Raises StoreError, naming the
    holder, if another process has it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + patience
        while not _try(handle):
            pid, host, command = _holder(path)
            # The wait also covers the moment between another process's locking the file and its writing who it is.
            if (host == socket.gethostname() and _alive(pid)) or time.monotonic() > deadline:
                raise StoreError(
                    f"the store {path.parent} is in use by process {pid} on {host} ({command}); "
                    f"wait until it ends, or stop it (kill {pid}), or give another folder"
                )
            time.sleep(0.05)
        os.ftruncate(handle, 0)
        os.pwrite(
            handle,
            f"{os.getpid()}\n{socket.gethostname()}\n{redacted(shlex.join(sys.argv))}\n".encode(errors="replace"),
            0,
        )
        os.fsync(handle)  # other machines that share the folder read the holder from it
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the file's lock inside the block; wait first until any other holder has released it or died."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                yield
                return
            # Else the file was removed while we waited, and the lock is on a file that nobody else opens. Try again.
        finally:
            os.close(handle)


def remove_if_released(path: Path, *, patience: float) -> bool:
    """Remove the file of a lock that nobody holds; False if it is still held after `patience` seconds."""
    handle = os.open(path, os.O_RDWR)
    try:
        deadline = time.monotonic() + patience
        while not _try(handle):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        path.unlink()
    finally:
        os.close(handle)
    return True


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> tuple[int, str, str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) < 3 or not lines[0].isdigit():
        return 0, "an unknown host", "unknown command"
    return int(lines[0]), lines[1], lines[2]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
