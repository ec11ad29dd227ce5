"""How far along, and how long still: predicted costs turned into time by the rates that were measured."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from distilscope.pipeline.schedule import makespan
from distilscope.pipeline.step import Step

ENOUGH = 0.01
"""Share of the predicted cost that must be finished before its rate is used for kinds not yet measured."""

OVERDUE = 0.1
"""A step that runs longer than predicted is taken to need this share of its time so far again."""


class Forecast:
    """Each kind has its own rate, cost per second of worker time, from its finished steps; a kind without one has the
    overall rate."""

    def __init__(self, todo: Sequence[Step], slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._unfinished = dict.fromkeys(todo)
        self._running: dict[Step, float] = {}
        self._cost: defaultdict[str, float] = defaultdict(float)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        # Where nothing has a predicted cost, steps count alike.
        self._weigh: Callable[[Step], float] = (
            (lambda step: step.cost) if any(step.cost for step in todo) else (lambda _: 1.0)
        )
        self._total = sum(map(self._weigh, todo))
        self._shown = 0.0

    def started(self, step: Step) -> None:
        self._running[step] = self._clock()

    def finished(self, step: Step, seconds: float) -> None:
        self._running.pop(step, None)
        self._unfinished.pop(step, None)
        self._cost[step.kind] += self._weigh(step)
        self._seconds[step.kind] += seconds

    def fraction(self) -> float:
        """Share of the predicted cost that is done, running steps by their elapsed time; never falls, and is 1 only at
        the end."""
        if not self._unfinished:
            return 1.0
        done = sum(self._cost.values())
        for step, since in self._running.items():
            expected, elapsed = self._expected(step), self._clock() - since
            if expected is not None and elapsed + expected > 0:
                done += self._weigh(step) * min(elapsed / max(expected, 1e-9), 1 - OVERDUE)
        self._shown = max(self._shown, min(done / self._total if self._total else 0.0, 0.99))
        return self._shown

    def seconds_left(self) -> float | None:
        """Seconds until the last step is done, with the steps as they wait for each other; None while there is nothing
        to judge by."""
        now = self._clock()
        left: dict[Step, float] = {}
        # Running steps first: they hold their slots, and nothing they read is unfinished.
        for step in (*self._running, *(step for step in self._unfinished if step not in self._running)):
            expected = self._expected(step)
            if expected is None:
                return None
            elapsed = now - self._running.get(step, now)
            left[step] = max(expected - elapsed, OVERDUE * elapsed)
        return makespan(list(left), left, self._slots)

    def _expected(self, step: Step) -> float | None:
        """Worker seconds for the whole step."""
        cost = self._weigh(step)
        if self._cost[step.kind] > 0:
            return cost * self._seconds[step.kind] / self._cost[step.kind]
        done = sum(self._cost.values())
        if done <= 0 or done < ENOUGH * self._total:
            return None
        return cost * sum(self._seconds.values()) / done
