"""Handling of SIGTERM: an orderly exit with code 143, through every `finally`; a second SIGTERM exits at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_waits: dict[str, bool] = {}
"""State of `defer_exit`: empty outside of it; inside, {"signal": whether SIGTERM has come}. One for the process, as
signals are."""


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Make SIGTERM raise SystemExit(143) in the main thread; a second one ends the process at once, with that code.

    Does nothing outside the main thread, or where SIGTERM has a handler already: so it can be nested, and a program
    that uses this package as a library keeps its own handler.
    """
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not free:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def defer_exit() -> Iterator[None]:
    """Let the exit of `exit_on_sigterm` wait until the block ends. Not to be nested.

    For a few lines that must run together, such as starting a process and noting that it runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _waits["signal"] = False
    try:
        yield
    finally:
        if _waits.pop("signal"):
            raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM has come; inside the block, SIGTERM itself ends nothing.

    So a step can save a checkpoint first, and a step that is almost done can finish. Outside the main thread, which
    alone receives signals, the function always returns False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    signal.signal(number, _leave_at_once)
    if "signal" in _waits:
        _waits["signal"] = True
    else:
        raise SystemExit(128 + number)


def _leave_at_once(number: int, frame: object) -> None:  # noqa: ARG001
    """Exit without cleaning up. The store survives a kill at any moment, and worker processes end with us."""
    os._exit(128 + number)
