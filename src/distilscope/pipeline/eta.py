"""Estimated time of arrival of a run: predicted costs turned into seconds by the rates measured so far."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from distilscope.pipeline.schedule import makespan
from distilscope.pipeline.step import Step

MIN_SHARE_DONE = 0.01
"""Share of the predicted cost that must be finished before the overall rate is used for kinds without a rate."""

OVERRUN = 0.1
"""A step that runs longer than predicted is assumed to need this share of its elapsed time again."""


class Eta:
    """Fraction done and seconds left of a run.

    Each kind of step has a rate, predicted cost per second of worker time, taken from its finished steps. A kind of
    which no step is finished has the overall rate.
    """

    def __init__(self, todo: Sequence[Step], slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._unfinished = dict.fromkeys(todo)
        self._running: dict[Step, float] = {}
        self._cost: defaultdict[str, float] = defaultdict(float)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        # Without any predicted cost, every step counts as one.
        self._weigh: Callable[[Step], float] = (
            (lambda step: step.cost) if any(step.cost for step in todo) else (lambda _: 1.0)
        )
        self._total = sum(map(self._weigh, todo))
        self._shown = 0.0

    def started(self, step: Step) -> None:
        """Note that a step starts now."""
        self._running[step] = self._clock()

    def finished(self, step: Step, seconds: float) -> None:
        """Note that a step took this many seconds of its worker."""
        self._running.pop(step, None)
        self._unfinished.pop(step, None)
        self._cost[step.kind] += self._weigh(step)
        self._seconds[step.kind] += seconds

    def fraction(self) -> float:
        """Share of the predicted cost that is done, with running steps counted by their elapsed time.

        It never falls, since a bar that moves backwards confuses, and is 1 only at the end.
        """
        if not self._unfinished:
            return 1.0
        done = sum(self._cost.values())
        for step, since in self._running.items():
            expected, elapsed = self._expected(step), self._clock() - since
            if expected is not None and elapsed + expected > 0:
                done += self._weigh(step) * min(elapsed / max(expected, 1e-9), 1 - OVERRUN)
        self._shown = max(self._shown, min(done / self._total if self._total else 0.0, 0.99))
        return self._shown

    def seconds_left(self) -> float | None:
        """Seconds until the last step is done, counting the waits for inputs; None before any rate is known."""
        now = self._clock()
        left: dict[Step, float] = {}
        # Running steps come first: they already hold slots, and all their inputs are finished.
        for step in (*self._running, *(step for step in self._unfinished if step not in self._running)):
            expected = self._expected(step)
            if expected is None:
                return None
            elapsed = now - self._running.get(step, now)
            left[step] = max(expected - elapsed, OVERRUN * elapsed)
        return makespan(list(left), left, self._slots)

    def _expected(self, step: Step) -> float | None:
        """Expected worker seconds of the whole step; None before any rate is known."""
        cost = self._weigh(step)
        if self._cost[step.kind] > 0:
            return cost * self._seconds[step.kind] / self._cost[step.kind]
        done = sum(self._cost.values())
        if done <= 0 or done < MIN_SHARE_DONE * self._total:
            return None
        return cost * sum(self._seconds.values()) / done
