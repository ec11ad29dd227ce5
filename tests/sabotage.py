"""Trainings shared by processes in which something goes wrong where $SABOTAGE says.

"kill 1 in step 8", "kill 0 in save 2", "abort at exit", or "linger in step 3": from there on each step takes long, and
$NOTE gets a line with each process's id. `python -m sabotage REQUEST` is one of the processes, `train_model` the work
that starts them.
"""

import atexit
import os
import signal
import sys
import time
from pathlib import Path

from distilscope.lm.training import loop, torchrun
from distilscope.pipeline.execute import execute
from distilscope.pipeline.progress import SilentWatcher
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.steps import train, train_worker
from distilscope.studies.steps.registry import functions

launch = torchrun.launch


def train_model(config, inputs, output, scratch):
    torchrun.launch = lambda _, request, **options: launch("sabotage", request, **options)
    return train.train_model(config, inputs, output, scratch)


def counting(function, at: int, then):
    """The function, with `then` called before its call number `at` (from 1) and all later ones."""
    calls = 0

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls >= at:
            then(*arguments)
        return function(*arguments, **options)

    return counted


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def half_then_die(partial: Path, _):
    os.truncate(partial, partial.stat().st_size // 2)
    die()


def linger(*_):
    with open(os.environ["NOTE"], "a") as note:
        note.write(f"{os.getpid()}\n")
    time.sleep(0.5)


def arrange(what: str, rank: str) -> None:
    match what.split():
        case ["kill", who, "in", "step", number] if who == rank:
            loop._backward = counting(loop._backward, int(number), die)
        case ["kill", who, "in", "save", number] if who == rank:
            Path.replace = counting(Path.replace, int(number), half_then_die)
        case ["abort", "at", "exit"]:
            atexit.register(os.abort)
        case ["linger", "in", "step", number]:
            loop._backward = counting(loop._backward, int(number), linger)


def run(step: Step, root: Path) -> None:
    execute(
        [step], Store(root), work=functions() | {"training": "sabotage:train_model"}, workers=2, watch=SilentWatcher()
    )


if __name__ == "__main__":
    arrange(os.environ.get("SABOTAGE", ""), os.environ["RANK"])
    train_worker.main(Path(sys.argv[1]))
