"""SIGTERM as an orderly end: exit code 143, with every `finally` and context manager on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_waits: dict[str, bool] = {}
"""For the whole process, as signals are: empty unless an exit must wait; then {"signal": whether one does}."""


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit(143) in the main thread.

    Does nothing outside the main thread, or where somebody handles the signal already: so it can be nested, and a program
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
def not_now() -> Iterator[None]:
    """Inside, the exit waits: for a few lines that must not be cut in two, such as starting a process and noting that it runs."""
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
def held_back() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM waits, and what is yielded says whether it has come: for work that has something to save before it ends.

    Where the block ends, the signal does what it would have done. Outside the main thread it does that at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clearing up
    if "signal" in _waits:
        _waits["signal"] = True
    else:
        raise SystemExit(128 + number)
