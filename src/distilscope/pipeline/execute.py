"""Run every step that the targets need and the store lacks: inputs first, several in parallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distilscope.errors import DistilscopeError
from distilscope.pipeline.engine import Engine, WorkerDiedError
from distilscope.pipeline.local_engine import LocalEngine
from distilscope.pipeline.progress import Watcher
from distilscope.pipeline.schedule import Schedule
from distilscope.pipeline.step import Step, order
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Task
from distilscope.system.signals import exit_on_sigterm

POLL_SECONDS = 0.25
"""Longest wait for a receipt, in seconds, before the watcher is called again."""


@dataclass(frozen=True)
class StepTiming:
    """How long a step took, in seconds of its worker. Artifacts hold no times, so that equal runs give equal bytes."""

    stage: str
    kind: str
    fingerprint: str
    seconds: float
    tokens: int


def needed(targets: Sequence[Step], store: Store) -> list[Step]:
    """Steps that would run, in the stable order: targets without an artifact, and those of their inputs without one.

    The inputs of an artifact that exists are not needed, whether or not they still exist.
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
) -> list[StepTiming]:
    """Run the needed steps and return the timing of each, in the stable order.

    `work` maps a kind to "package.module:function". A worker process calls it as f(config, inputs, output, scratch) ->
    counts: `inputs` are the folders of the inputs by name, `output` is an empty folder for the artifact, `scratch` one
    that survives a crash. At most `workers` threads compute at once (a step has one unless it needs more); their number
    changes no byte of the results. With `engine` the steps run there, on its own slots.

    The store is locked meanwhile. The first error ends the run: running steps are killed, finished ones are kept, and
    the next call continues from there. A step's own DistilscopeError is raised as it was; any other error becomes a
    DistilscopeError that names the step and the log with the traceback. A step whose worker died is started once more;
    if its worker dies again, that is an error. Ctrl-C and SIGTERM end the run too, but running steps may save a
    checkpoint first. SIGTERM raises SystemExit(143) unless the program handles it itself (see `exit_on_sigterm`).
    """
    if not needed(targets, store):
        watch.begin([], kept=len(order(targets)), slots=workers)
        watch.end()
        return []
    with exit_on_sigterm(), store.lock():
        todo = needed(targets, store)  # asked again: the run that held the lock may have made some of them
        unknown = next((step for step in todo if step.kind not in work), None)
        if unknown is not None:
            raise DistilscopeError(
                f"nothing says how to run a step of kind {unknown.kind!r}; known: {', '.join(sorted(work)) or 'none'}"
            )
        running = engine or LocalEngine(store, slots=workers)
        with running:
            try:
                watch.begin(todo, kept=len(order(targets)) - len(todo), slots=running.slots)
                return _run(todo, store, work, running, watch)
            except (SystemExit, KeyboardInterrupt):
                watch.note("steps under way may keep a checkpoint first; a second signal leaves at once")
                raise
            finally:
                watch.end()


def _run(
    todo: Sequence[Step], store: Store, work: Mapping[str, str], engine: Engine, watch: Watcher
) -> list[StepTiming]:
    for needs in {step.needs for step in todo}:
        engine.takes(needs)  # raises for what can never run: now, not hours later when its turn comes
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
        receipts = engine.collect(POLL_SECONDS)
        # Successes first: an error below ends the run, and what is finished should be reported before.
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
    return [StepTiming(step.stage, step.kind, step.fingerprint, seconds[step], tokens[step]) for step in todo]
