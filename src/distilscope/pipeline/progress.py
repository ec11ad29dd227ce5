"""Progress of a run on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Protocol, cast, runtime_checkable

from distilscope.pipeline.eta import Eta
from distilscope.pipeline.step import Step
from distilscope.system.units import format_duration

Clock = Callable[[], float]


@runtime_checkable
class Stream(Protocol):
    """The methods of a text file that are used here."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


@runtime_checkable
class Watcher(Protocol):
    """Callbacks of `execute`, called from one thread: begin, then started, finished and tick, then end."""

    def begin(self, todo: Sequence[Step], *, kept: int, slots: int) -> None:
        """The run begins: `todo` will run, at most `slots` at once; `kept` steps of the plan need not run."""
        ...

    def started(self, step: Step) -> None:
        """A step was submitted."""
        ...

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int | float | str]) -> None:
        """A step's artifact is in the store: with the seconds of its worker, and the counts of its manifest."""
        ...

    def note(self, sentence: str) -> None:
        """A sentence for the user, at any time."""
        ...

    def tick(self) -> None:
        """Called several times a second."""
        ...

    def end(self) -> None:
        """The run ended, whether all is done or something failed."""
        ...


class SilentWatcher:
    """A watcher that shows nothing."""

    def begin(self, todo: Sequence[Step], *, kept: int, slots: int) -> None: ...
    def started(self, step: Step) -> None: ...
    def finished(self, step: Step, seconds: float, counts: Mapping[str, int | float | str]) -> None: ...
    def note(self, sentence: str) -> None: ...
    def tick(self) -> None: ...
    def end(self) -> None: ...


class RunProgress:
    """The state of a run: steps done by stage, throughput, time left. Cached steps do not count."""

    def __init__(self, todo: Sequence[Step], slots: int, clock: Clock) -> None:
        self.total = Counter(step.title for step in todo)
        self.done: Counter[str] = Counter()
        self.eta = Eta(todo, slots, clock)
        self._clock = clock
        self._position = {step: i for i, step in enumerate(todo)}
        self._running: set[Step] = set()
        self._stage = todo[0].title if todo else ""
        self._tokens: Counter[str] = Counter()
        self._began: dict[str, float] = {}
        self._latest: dict[str, float] = {}

    def started(self, step: Step) -> None:
        """Note that a step was submitted."""
        self._running.add(step)
        self._began.setdefault(step.title, self._clock())
        self.eta.started(step)

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int | float | str]) -> None:
        """Note that a step's artifact is in the store."""
        self._stage = self.stage
        self._running.discard(step)
        self.done[step.title] += 1
        self._tokens[step.title] += int(counts.get("tokens", step.tokens))
        self._latest[step.title] = self._clock()
        self.eta.finished(step, seconds)

    def began(self, stage: str) -> bool:
        """Whether a step of the stage has started."""
        return stage in self._began

    @property
    def stage(self) -> str:
        """The stage of the first running step, in the stable order; between steps, the last stage shown."""
        return min(self._running, key=self._position.__getitem__).title if self._running else self._stage

    def seconds(self, stage: str) -> float:
        """Wall seconds from a stage's first start to its latest finish."""
        return self._latest[stage] - self._began[stage] if stage in self._latest else 0.0

    def where(self, stage: str) -> str:
        """A text like "train students 12/25  8 420 tokens/s": finished tokens over the stage's wall time."""
        speed = self._tokens[stage] / self.seconds(stage) if self.seconds(stage) > 0 else 0.0
        steps = f"{stage} {self.done[stage]}/{self.total[stage]}"
        return f"{steps}  {speed:,.0f} tokens/s".replace(",", " ") if speed else steps

    def left(self) -> str:
        """The time left, as a text."""
        seconds = self.eta.seconds_left()
        return "estimating" if seconds is None else f"about {format_duration(seconds)} left"


class ProgressLines:
    """A watcher that prints lines: one at each stage's start and end, in between at most one per `every` seconds."""

    def __init__(self, stream: Stream, *, every: float = 5.0, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._progress = RunProgress([], 1, clock)
        self._said = self._start = clock()

    def begin(self, todo: Sequence[Step], *, kept: int, slots: int) -> None:
        self._progress = RunProgress(todo, slots, self._clock)
        self._start = self._clock()
        if todo:
            self._say(f"{_steps(len(todo))} to run, {slots} at a time; {kept} are done or not needed")
        else:
            self._say(f"nothing to run: all is done ({_steps(kept)})")

    def started(self, step: Step) -> None:
        first = not self._progress.began(step.title)
        self._progress.started(step)
        if first:
            self._say(
                f"{self._percent()} {step.title}: {_steps(self._progress.total[step.title])}, {self._progress.left()}"
            )

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int | float | str]) -> None:
        self._progress.finished(step, seconds, counts)
        stage = step.title
        if self._progress.done[stage] == self._progress.total[stage]:
            took = format_duration(self._progress.seconds(stage))
            self._say(f"{self._percent()} {self._progress.where(stage)}  done in {took}")

    def note(self, sentence: str) -> None:
        self._say(sentence)

    def tick(self) -> None:
        if self._clock() - self._said >= self._every:
            self._say(f"{self._percent()} {self._progress.where(self._progress.stage)}  {self._progress.left()}")

    def end(self) -> None:
        done, total = self._progress.done.total(), self._progress.total.total()
        took = format_duration(self._clock() - self._start)
        if done < total:
            self._say(f"stopped after {took}: {done} of {_steps(total)} finished and kept")
        elif total:
            self._say(f"{_steps(total)} done in {took}")

    def _percent(self) -> str:
        return f"[{100 * self._progress.eta.fraction():3.0f}%]"

    def _say(self, line: str) -> None:
        self._said = self._clock()
        print(line, file=self._stream, flush=True)


class ProgressBar:
    """A watcher that redraws one line of a terminal: stage, steps, bar by predicted cost, throughput, time left.

    It draws on `tick`, not in a thread.
    """

    def __init__(self, stream: Stream, *, clock: Clock = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._clock = clock
        self._progress = RunProgress([], 1, clock)
        self._drawn = float("-inf")
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        self._bar = Progress(
            *columns,
            console=Console(file=cast("IO[str]", stream)),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._line = self._bar.add_task("", total=1.0, left="")

    def begin(self, todo: Sequence[Step], *, kept: int, slots: int) -> None:
        self._progress = RunProgress(todo, slots, self._clock)
        if todo:
            self._draw(self._progress.left())
            self._bar.start()
        else:
            self._bar.console.print(f"nothing to run: all is done ({_steps(kept)})", markup=False, highlight=False)

    def started(self, step: Step) -> None:
        self._progress.started(step)

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int | float | str]) -> None:
        self._progress.finished(step, seconds, counts)

    def note(self, sentence: str) -> None:
        self._bar.console.print(sentence, markup=False, highlight=False)

    def tick(self) -> None:
        if self._clock() - self._drawn >= 1.0:
            self._draw(self._progress.left())

    def end(self) -> None:
        done, total = self._progress.done.total(), self._progress.total.total()
        if total:
            self._draw("done" if done == total else f"stopped: {done} of {_steps(total)} finished and kept")
            self._bar.stop()

    def _draw(self, left: str) -> None:
        self._drawn = self._clock()
        completed = self._progress.eta.fraction()
        self._bar.update(
            self._line,
            completed=completed,
            description=self._progress.where(self._progress.stage),
            left=left,
            refresh=True,
        )


def _steps(n: int) -> str:
    return "1 step" if n == 1 else f"{n} steps"


def default_watcher(stream: Stream | None = None) -> Watcher:
    """The bar if the stream (standard error unless given) is a terminal that can redraw a line, else plain lines."""
    target: Stream = sys.stderr if stream is None else stream
    return (
        ProgressBar(target)
        if target.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
        else ProgressLines(target)
    )
