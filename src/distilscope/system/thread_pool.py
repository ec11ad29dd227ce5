"""Pieces of work side by side on threads of this process.

Torch's own threads share each operation and wait for each other after it, hundreds of times a pass. Pieces that have
nothing to do with each other need not; and a thread that computes alone has the compiled loops (`lm.compiled`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


class _AbandonedError(BaseException):
    """Nobody waits for this piece any more."""


_this_thread = threading.local()


def in_threads(
    work: Callable[[Part], Result], parts: Iterable[Part], threads: int, *, each: int = 1
) -> Generator[Result]:
    """work(part) of every part, in their order; up to `threads` of them at a time, each with `each` of torch's threads.

    One thread is the caller's own, as it is. The first error ends it all, as does a caller that goes on to something
    else: pieces under way then end where they next ask `keep_on`.
    """
    if threads == 1:
        yield from map(work, parts)
        return
    before, abandoned = torch.get_num_threads(), threading.Event()

    def begin() -> None:
        torch.set_num_threads(each)
        _this_thread.abandoned = abandoned

    pool, under_way = ThreadPoolExecutor(threads, initializer=begin), deque[Future[Result]]()
    try:
        for part in parts:
            under_way.append(pool.submit(work, part))
            if len(under_way) > threads:  # one waits, so that no thread does
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        abandoned.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # what a thread sets, those that begin later have as well


def keep_on() -> None:
    """Ends the piece of `in_threads` that this thread works on if nobody waits for it; long ones ask now and then."""
    abandoned = getattr(_this_thread, "abandoned", None)
    if abandoned is not None and abandoned.is_set():
        raise _AbandonedError


@contextmanager
def one_thread() -> Iterator[None]:
    """Small arrays: threads would only cost time, and could change the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
