"""The order of execution: always the first step, in the stable order, whose inputs are finished."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from distilscope.pipeline.step import Step


class Schedule:
    """A queue of steps that become ready as their inputs finish. The steps are given inputs first; an input that is not
    among them counts as finished."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._position = {step: i for i, step in enumerate(steps)}
        self._readers: list[list[int]] = [[] for _ in steps]
        self._missing = [0] * len(steps)
        for i, step in enumerate(steps):
            for source in set(step.inputs.values()):
                if (at := self._position.get(source)) is not None:
                    self._readers[at].append(i)
                    self._missing[i] += 1
        self._ready = [i for i, missing in enumerate(self._missing) if not missing]
        self.unfinished = len(steps)

    @property
    def first(self) -> Step | None:
        """The first ready step, which stays in the queue; None if no step is ready."""
        return self._steps[self._ready[0]] if self._ready else None

    def next(self) -> Step | None:
        """Remove the first ready step from the queue and return it; None if no step is ready."""
        return self._steps[heapq.heappop(self._ready)] if self._ready else None

    def done(self, step: Step) -> None:
        """Note that a step is finished, which may make its readers ready."""
        self.unfinished -= 1
        for reader in self._readers[self._position[step]]:
            self._missing[reader] -= 1
            if not self._missing[reader]:
                heapq.heappush(self._ready, reader)


def makespan(steps: Sequence[Step], seconds: Mapping[Step, float], slots: int) -> float:
    """Seconds until all steps are done on `slots` cores, if each takes the given time: a simulation of `Schedule`."""
    schedule = Schedule(steps)
    running: list[tuple[float, int, Step]] = []
    now, taken, free = 0.0, 0, slots
    while True:
        # A step that needs more cores than there are starts alone, so that the simulation ends.
        while (step := schedule.first) is not None and (free >= step.needs.cores or not running):
            heapq.heappush(running, (now + seconds[step], taken, step))
            schedule.next()
            free -= step.needs.cores
            taken += 1
        if not running:
            return now
        now, _, step = heapq.heappop(running)
        free += step.needs.cores
        schedule.done(step)
