"""Runs what is missing: every step the targets need and the store does not have, inputs first, several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distilscope.errors import DistilscopeError
from distilscope.pipeline.engine import Engine, WorkerDiedError
from distilscope.pipeline.local_engine import LocalProcesses
from distilscope.pipeline.progress import Watcher
from distilscope.pipeline.schedule import Schedule
from distilscope.pipeline.step import Step, order
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Task
from distilscope.system.signals import exit_on_sigterm

TICK = 0.25
"""Longest wait, in seconds, before the watcher hears again."""


@dataclass(frozen=True)
class Record:
    """How long a step took (seconds of its worker), for whoever keeps the time; artifacts hold none."""

    stage: str
    kind: str
    fingerprint: str
    seconds: float
    tokens: int


def needed(targets: Sequence[Step], store: Store) -> list[Step]:
    """What would run, in the stable order: targets without an artifact and, as far as those need them, inputs without
    one.

    What an existing artifact was made from is not needed, whether or not it still exists.
    """
    missing: set[Step] = set()
    seen: set[Step] = set()
    stack = list(targets)
    while stack:
        step = stack.pop()
        if step in seen:
            continue
        seen.add(step)
        if not store.has(step):
            missing.add(step)
            stack.extend(step.inputs.values())
    return [step for step in order(targets) if step in missing]


def execute(
    targets: Sequence[Step],
    store: Store,
    *,
    work: Mapping[str, str],
    workers: int,
    watch: Watcher,
    engine: Engine | None = None,
) -> list[Record]:
    """Runs the needed steps and returns a record of each, in the stable order.

    `work` maps a kind to "package.module:function", called in a worker process as f(config, inputs, output, scratch) ->
    counts with the folders of the inputs by name, an empty folder for the artifact, and one that survives a crash. At
    most `workers` threads compute at once (a step has one unless it needs more), which changes no byte. `engine` runs
    them elsewhere (its own slots then count).

    The store is locked meanwhile. The first error ends it: the steps still running are killed, what was finished is
    kept, and the next call goes on from there. A step's own DistilscopeError is raised as it was; any other becomes a
    DistilscopeError that names the step and the log holding the traceback. A step whose worker died is started once
    more; a second death is an error too. The same holds for Ctrl-C, and for SIGTERM, which raises SystemExit(143)
    unless the program handles it itself (see `exit_on_sigterm`), but steps under way may then keep a checkpoint first.
    """
    if not needed(targets, store):
        watch.begin([], kept=len(order(targets)), slots=workers)
        watch.end()
        return []
    with exit_on_sigterm(), store.lock():
        todo = needed(targets, store)  # again: whoever held the lock may have done some
        unknown = next((step for step in todo if step.kind not in work), None)
        if unknown is not None:
            raise DistilscopeError(
                f"nothing says how to run a step of kind {unknown.kind!r}; known: {', '.join(sorted(work)) or 'none'}"
            )
        running = engine or LocalProcesses(store, slots=workers)
        with running:
            try:
                watch.begin(todo, kept=len(order(targets)) - len(todo), slots=running.slots)
                return _run(todo, store, work, running, watch)
            except (SystemExit, KeyboardInterrupt):
                watch.note("steps under way may keep a checkpoint first; a second signal leaves at once")
                raise
            finally:
                watch.end()


def _run(todo: Sequence[Step], store: Store, work: Mapping[str, str], engine: Engine, watch: Watcher) -> list[Record]:
    for needs in {step.needs for step in todo}:
        engine.takes(needs)  # what can never run is said now, not when it is its turn
    schedule = Schedule(todo)
    in_flight: dict[str, Step] = {}
    died: set[str] = set()
    seconds: dict[Step, float] = {}
    tokens: dict[Step, int] = {}
    while schedule.unfinished:
        while (step := schedule.first) is not None and engine.takes(step.needs):
            schedule.next()
            engine.submit(Task.of(step, work[step.kind], store))
            in_flight[step.fingerprint] = step
            watch.started(step)
        receipts = engine.collect(TICK)
        for receipt in sorted(receipts, key=lambda receipt: receipt.error is not None):
            if isinstance(receipt.error, WorkerDiedError) and receipt.fingerprint not in died:
                died.add(receipt.fingerprint)
                watch.note(f"{receipt.error.what}; it is started once more")
                step = in_flight[receipt.fingerprint]
                engine.submit(Task.of(step, work[step.kind], store))
                continue
            if receipt.error is not None:
                raise receipt.error
            step = in_flight.pop(receipt.fingerprint)
            schedule.done(step)
            seconds[step] = receipt.seconds
            tokens[step] = int((receipt.counts or {}).get("tokens", step.tokens))
            watch.finished(step, receipt.seconds, receipt.counts or {})
        watch.tick()
    return [Record(step.stage, step.kind, step.fingerprint, seconds[step], tokens[step]) for step in todo]
