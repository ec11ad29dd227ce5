"""Independent pieces of work in parallel threads of this process.

Torch's own threads share each operation and wait for each other after it, hundreds of times in a forward pass.
Independent pieces need not wait; and with one thread of torch, they use the compiled kernels (`lm.kernels`).
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
    """Ends a piece of work whose result nobody waits for any more."""


_this_thread = threading.local()


def map_in_threads(
    work: Callable[[Part], Result], parts: Iterable[Part], threads: int, *, each: int = 1
) -> Generator[Result]:
    """Yield work(part) for every part, in order; up to `threads` at a time, each with `each` threads of torch.

    With `threads` = 1 the caller's own thread does the work, with its own number of torch's threads. The first error
    ends all, and so does a caller that closes the generator: running pieces then end at their next call of
    `raise_if_abandoned`.
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
            if len(under_way) > threads:  # one more than runs, so that no thread has to wait for work
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        abandoned.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # threads that begin later inherit what the last one set


def raise_if_abandoned() -> None:
    """End this thread's piece of `map_in_threads` if nobody waits for it. Long pieces call it now and then."""
    abandoned = getattr(_this_thread, "abandoned", None)
    if abandoned is not None and abandoned.is_set():
        raise _AbandonedError


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread. With small arrays more would cost time, and could change the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
