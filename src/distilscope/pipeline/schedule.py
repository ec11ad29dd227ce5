"""Which step is next: the first, in the stable order, whose inputs are there."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from distilscope.pipeline.step import Step


class Schedule:
    """Steps to run, given inputs first. An input outside the list counts as there."""

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
        """The first ready step, left where it is; None if none is ready now."""
        return self._steps[self._ready[0]] if self._ready else None

    def next(self) -> Step | None:
        """Takes the first ready step; None if none is ready now."""
        return self._steps[heapq.heappop(self._ready)] if self._ready else None

    def done(self, step: Step) -> None:
        """A step taken before has finished: its readers may become ready."""
        self.unfinished -= 1
        for reader in self._readers[self._position[step]]:
            self._missing[reader] -= 1
            if not self._missing[reader]:
                heapq.heappush(self._ready, reader)


def makespan(steps: Sequence[Step], seconds: Mapping[Step, float], slots: int) -> float:
    """Seconds until all steps are done on `slots` cores, each taking what `seconds` says: the schedule above, played
    through."""
    schedule = Schedule(steps)
    running: list[tuple[float, int, Step]] = []
    now, taken, free = 0.0, 0, slots
    while True:
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
