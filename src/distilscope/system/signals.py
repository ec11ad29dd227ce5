"""SIGTERM as an orderly end: exit code 143, with every `finally` and context manager on the way out; a second one
leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_waits: dict[str, bool] = {}
"""For the whole process, as signals are: empty unless an exit must wait; then {"signal": whether one does}."""


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit(143) in the main thread; a second one ends the process on the spot, with the
    same code.

    Does nothing outside the main thread, or where somebody handles the signal already: so it can be nested, and a
    program that uses this package as a library keeps its own handler.
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
def not_now() -> Iterator[None]:
    """Inside, the exit waits: for a few lines that must not be cut in two, such as starting a process and noting that
    it runs."""
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
    """Inside, SIGTERM ends nothing by itself; the value says whether one came, so that a step can keep a checkpoint
    first.

    A step that had only to finish just finishes. Outside the main thread, where signals are not heard, it says False
    for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    signal.signal(number, _leave_at_once)
    if "signal" in _waits:
        _waits["signal"] = True
    else:
        raise SystemExit(128 + number)


def _leave_at_once(number: int, frame: object) -> None:  # noqa: ARG001
    """Without clearing up: a store can stand a kill at any moment anyway, and worker processes end with us."""
    os._exit(128 + number)
