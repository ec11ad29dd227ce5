"""One run at a time writes a store, and one process at a time a step of it: locks that the kernel releases when their
holder is dead."""

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
"""Seconds to wait for a lock whose holder is dead: its workers inherited the lock and are just exiting."""


def take_lock(path: Path, *, patience: float = PATIENCE) -> int:
    """Locks the file, writes this process's id, host and command into it and returns the open handle; closing it
    releases the lock.

    Raises StoreError, naming the holder, if another process has it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + patience
        while not _try(handle):
            pid, host, command = _holder(path)
            # Also covers the instant between another process's taking the lock and its writing who it is.
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
        os.fsync(handle)  # other machines that share the folder read it
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Inside, this process alone holds the file's lock; waits for another holder to be done or dead, on whichever
    machine."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                yield
                return
            # else it was removed while we waited: take the one that others see
        finally:
            os.close(handle)


def remove_released(path: Path, *, patience: float) -> bool:
    """Removes such a lock's file as soon as nobody holds it; False if somebody still does after so many seconds."""
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
