from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import threading

import pytest

from distilscope.pipeline.eta import Eta
from distilscope.pipeline.progress import ProgressBar, ProgressLines, SilentWatcher, Watcher, default_watcher
from distilscope.pipeline.step import Step
from distilscope.system.units import format_duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step(kind: str, n: int, cost: float = 1.0, inputs: dict[str, Step] | None = None, tokens: int = 0) -> Step:
    return Step(kind, {"n": n}, inputs or {}, 1, stage=f"{kind} stage", cost=cost, tokens=tokens)


def do(forecast: Eta, clock: Clock, one: Step, seconds: float) -> None:
    forecast.started(one)
    clock.now += seconds
    forecast.finished(one, float(seconds))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_estimating_until_something_has_finished(clock):
    todo = [step("train", i, 10.0) for i in range(4)]
    forecast = Eta(todo, 1, clock)
    forecast.started(todo[0])
    clock.now += 5
    assert forecast.seconds_left() is None
    assert forecast.fraction() == 0.0


def test_one_kind_one_worker(clock):
    todo = [step("train", i, 10.0) for i in range(4)]
    forecast = Eta(todo, 1, clock)
    do(forecast, clock, todo[0], 20)
    assert forecast.seconds_left() == pytest.approx(60)
    assert forecast.fraction() == pytest.approx(0.25)
    forecast.started(todo[1])
    clock.now += 5
    assert forecast.seconds_left() == pytest.approx(55)
    assert forecast.fraction() == pytest.approx(0.3125)


def test_steps_side_by_side_divide_the_time_but_a_chain_does_not(clock):
    free = [step("train", i) for i in range(5)]
    forecast = Eta(free, 2, clock)
    do(forecast, clock, free[0], 10)
    assert forecast.seconds_left() == pytest.approx(20)
    chain = [step("train", 0)]
    for i in range(1, 5):
        chain.append(step("train", i, inputs={"previous": chain[-1]}))
    forecast = Eta(chain, 2, clock)
    do(forecast, clock, chain[0], 10)
    assert forecast.seconds_left() == pytest.approx(40)


def test_each_kind_has_its_own_rate_and_an_unmeasured_one_the_overall_rate(clock):
    train, score, new = ([step(kind, i, 8.0) for i in range(2)] for kind in ("train", "score", "new"))
    forecast = Eta([*train, *score, *new], 1, clock)
    do(forecast, clock, train[0], 4)  # 2 per second
    do(forecast, clock, score[0], 12)  # 2/3 per second
    assert forecast.seconds_left() == pytest.approx(4 + 12 + 2 * 8)  # overall 1 per second
    do(forecast, clock, new[0], 1)
    assert forecast.seconds_left() == pytest.approx(4 + 12 + 1)


def test_a_trifle_says_nothing_about_kinds_that_were_not_measured(clock):
    first, train = step("convert", 0, 1.0), [step("train", i, 1e12) for i in range(2)]
    forecast = Eta([first, *train], 1, clock)
    do(forecast, clock, first, 5)
    assert forecast.seconds_left() is None  # at 0.2 FLOP/s it would be 300 000 years
    do(forecast, clock, train[0], 50)
    assert forecast.seconds_left() == pytest.approx(50)


def test_a_step_that_is_overdue_is_never_just_about_to_end(clock):
    todo = [step("train", i) for i in range(2)]
    forecast = Eta(todo, 1, clock)
    do(forecast, clock, todo[0], 10)
    forecast.started(todo[1])
    clock.now += 100
    assert forecast.seconds_left() == pytest.approx(10)
    assert forecast.fraction() == pytest.approx(0.95)


def test_the_fraction_never_falls_and_is_one_only_at_the_end(clock):
    todo = [step("train", i) for i in range(20)]
    forecast, shown = Eta(todo, 2, clock), [0.0]
    for i, one in enumerate(todo):
        forecast.started(one)
        for _ in range(4):
            clock.now += 1 + i % 3
            shown.append(forecast.fraction())
        forecast.finished(one, 4.0 * (1 + i % 3))
    assert shown == sorted(shown)
    assert shown[-1] < 1.0
    assert forecast.fraction() == 1.0
    assert forecast.seconds_left() == 0.0


def test_costs_of_zero_count_alike_and_steps_that_take_no_time_divide_nothing_by_zero(clock):
    todo = [step("report", i, 0.0) for i in range(4)]
    forecast = Eta(todo, 1, clock)
    do(forecast, clock, todo[0], 0.0)
    forecast.started(todo[1])
    assert forecast.seconds_left() == 0.0
    assert forecast.fraction() == pytest.approx(0.25)


def test_thousands_of_steps_are_forecast_at_once(clock):
    todo = [step("draw", i) for i in range(3_000)]
    forecast = Eta(todo, 2, clock)
    do(forecast, clock, todo[0], 1)
    assert forecast.seconds_left() == pytest.approx(1500)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.1 s"),
        (0.31, "0.3 s"),
        (0.97, "1 s"),
        (40.2, "40 s"),
        (59.6, "1 min"),
        (360.0, "6 min"),
        (3599.0, "1 h 0 min"),
        (7800.0, "2 h 10 min"),
        (76 * 3600.0, "3 d 4 h"),
    ],
)
def test_durations_as_one_says_them(seconds, said):
    assert format_duration(seconds) == said


def play(watch: Watcher, clock: Clock) -> None:
    """Two stages of 1 and 4 steps, one at a time; 3 more were there already."""
    data = step("data", 0, 10.0)
    train = [step("train", i, 10.0, {"data": data}, tokens=84_200) for i in range(4)]
    watch.begin([data, *train], kept=3, slots=1)
    for one in (data, *train):
        watch.started(one)
        for _ in range(40):
            clock.now += 0.25
            watch.tick()
        watch.finished(one, 10.0, {})
    watch.end()


def test_plain_lines(clock):
    stream = io.StringIO()
    play(ProgressLines(stream, clock=clock), clock)
    assert stream.getvalue().splitlines() == [
        "5 steps to run, 1 at a time; 3 are done or not needed",
        "[  0%] data stage: 1 step, estimating",
        "[  0%] data stage 0/1  estimating",
        "[  0%] data stage 0/1  estimating",
        "[ 20%] data stage 1/1  done in 10 s",
        "[ 20%] train stage: 4 steps, about 40 s left",
        "[ 30%] train stage 0/4  about 35 s left",
        "[ 38%] train stage 0/4  about 31 s left",
        "[ 50%] train stage 1/4  8 420 tokens/s  about 25 s left",
        "[ 58%] train stage 1/4  8 420 tokens/s  about 21 s left",
        "[ 70%] train stage 2/4  8 420 tokens/s  about 15 s left",
        "[ 78%] train stage 2/4  8 420 tokens/s  about 11 s left",
        "[ 90%] train stage 3/4  8 420 tokens/s  about 5 s left",
        "[ 98%] train stage 3/4  8 420 tokens/s  about 1 s left",
        "[100%] train stage 4/4  8 420 tokens/s  done in 40 s",
        "5 steps done in 50 s",
    ]


def test_plain_lines_when_all_is_there_and_when_it_stops_early(clock):
    stream = io.StringIO()
    watch = ProgressLines(stream, clock=clock)
    watch.begin([], kept=13, slots=2)
    watch.end()
    assert stream.getvalue() == "nothing to run: all is done (13 steps)\n"
    watch.begin([step("train", 0), step("train", 1)], kept=0, slots=2)
    watch.started(step("train", 0))
    watch.finished(step("train", 0), 3.0, {})
    watch.note("a worker process died")
    clock.now += 65
    watch.end()
    assert stream.getvalue().splitlines()[-2:] == [
        "a worker process died",
        "stopped after 1 min: 1 of 2 steps finished and kept",
    ]


def test_a_terminal_gets_a_bar(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # how Linux says that the other side is closed
            while piece := os.read(ours, 4096):
                seen.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal:
        assert isinstance(default_watcher(terminal), ProgressBar)
        bar = ProgressBar(terminal, clock=clock)
        play(bar, clock)
        bar.note("a [red] note")
    reader.join()
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "data stage 0/1" in text
    assert re.search(r"train stage 1/4  8 420 tokens/s .* 50% about 25 s left", text)
    assert re.search(r"train stage 4/4  8 420 tokens/s .*100% done", text)
    assert "a [red] note" in text


def test_everything_else_gets_lines(tmp_path, monkeypatch):
    with open(tmp_path / "log", "w") as file:
        assert isinstance(default_watcher(file), ProgressLines)
    monkeypatch.setenv("TERM", "dumb")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert isinstance(default_watcher(terminal), ProgressLines)
    os.close(ours)


def test_all_watchers_are_watchers():
    assert all(
        isinstance(watch, Watcher)
        for watch in (SilentWatcher(), ProgressLines(io.StringIO()), ProgressBar(io.StringIO()))
    )
