"""A step as it is sent to another process: what is needed to run it against a store."""

from __future__ import annotations

import json
import pickle
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from distilscope.errors import DistilscopeError
from distilscope.pipeline.manifest import require_sound
from distilscope.pipeline.step import Identity, Needs, Step, canonical
from distilscope.pipeline.store import Store
from distilscope.system.redaction import redacted


@dataclass(frozen=True)
class Task:
    """A step to run. `function` is "package.module:function", called as f(config, inputs, output, scratch) -> counts.

    `inputs` are the folders of artifacts by name; `local` joins the configuration (see `Step`).
    """

    identity: Identity
    title: str
    function: str
    root: str
    inputs: Mapping[str, str]
    local: Mapping[str, str]
    needs: Needs

    @classmethod
    def of(cls, step: Step, function: str, store: Store) -> Task:
        inputs = {name: str(store.path(source)) for name, source in step.inputs.items()}
        return cls(step.identity, step.title, function, str(store.root), inputs, step.local, step.needs)

    @property
    def name(self) -> str:
        """The step in messages: its stage, kind and short fingerprint."""
        return f"{self.title!r} ({self.identity.kind}/{self.identity.fingerprint[:12]})"


@dataclass(frozen=True)
class Receipt:
    """The outcome of a task. The output itself is in the store; `error` is None if it is."""

    fingerprint: str
    seconds: float = 0.0
    counts: Mapping[str, int | float | str] | None = None
    error: BaseException | None = None


def perform(task: Task) -> Receipt:
    """Run a step and commit its artifact. Errors of the step are returned in the receipt, not raised.

    If another process (one that was believed dead) is at the same step, wait for it; what it has finished is not done
    again. A DistilscopeError is returned as it is. The traceback of any other error goes to a log, and the
    DistilscopeError that is returned names the log.
    """
    store = Store(task.root)
    try:
        function = import_function(task.function)
        with store.claim(task.identity):
            if store.has(task.identity):
                return Receipt(task.identity.fingerprint, counts=store.manifest(task.identity)["counts"])
            start = time.perf_counter()  # after the import of the code, which takes seconds and is no time of the step
            counts: dict[str, Any] = {}
            with store.writing(task.identity, counts) as output:
                # A round trip through JSON: a copy that the function may change, with the same types on every engine.
                config = json.loads(canonical(task.identity.config)) | dict(task.local)
                inputs = {name: _sound(Path(path)) for name, path in task.inputs.items()}
                counts.update(function(config, inputs, output, store.scratch(task.identity)))
            return Receipt(task.identity.fingerprint, time.perf_counter() - start, counts)
    except BaseException as error:
        return Receipt(task.identity.fingerprint, error=_sendable(error, task, store))


_sound = lru_cache(maxsize=4096)(require_sound)
"""Checks an input before a step reads it: nothing is computed from an artifact that has changed since it was written.
A worker hashes each artifact once."""


def import_function(reference: str) -> Any:
    """Import the function that `module:name` refers to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _sendable(error: BaseException, task: Task, store: Store) -> DistilscopeError:
    """The error as one that pickle can send to another process and that is equal there."""
    if isinstance(error, DistilscopeError):
        try:
            copy = pickle.loads(pickle.dumps(error))
        except Exception:
            copy = None
        if type(copy) is type(error) and str(copy) == str(error):
            return error
        base = next(cls for cls in type(error).__mro__ if cls.__module__ == DistilscopeError.__module__)
        return base(str(error))  # the nearest base class that can be sent, with the same message
    reason = redacted(f"{type(error).__name__}: {error}").strip().splitlines()[0][:300]
    remedy = "use fewer workers, or smaller sizes; " if isinstance(error, MemoryError) else ""
    told = f"the step {task.name} failed with {reason}; {remedy}"
    try:
        log = store.logs() / f"{task.identity.kind}-{task.identity.fingerprint[:12]}.log"
        told_in_full = redacted(f"{task}\n\n{''.join(traceback.format_exception(error))}")
        log.write_text(told_in_full, encoding="utf-8", errors="backslashreplace")
    except (OSError, DistilscopeError) as refusal:
        return DistilscopeError(f"{told}its traceback could not be kept ({refusal})")
    return DistilscopeError(f"{told}the whole traceback is in {log}")
