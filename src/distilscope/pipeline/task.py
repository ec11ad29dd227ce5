"""One step as another process sees it: everything needed to run it against a store, and nothing more."""

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
    """`function` is "package.module:function", called as f(config, inputs, output, scratch) -> counts; `inputs` are
    artifact folders."""

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
        """What messages call the step."""
        return f"{self.title!r} ({self.identity.kind}/{self.identity.fingerprint[:12]})"


@dataclass(frozen=True)
class Receipt:
    """What comes back: the store holds the output, this says that it does, or why not. `error` is None if all went
    well."""

    fingerprint: str
    seconds: float = 0.0
    counts: Mapping[str, int | float | str] | None = None
    error: BaseException | None = None


def perform(task: Task) -> Receipt:
    """Runs a step and commits its artifact; raises nothing that a step can raise, but hands it back.

    If another process is at the same step, one that was thought dead, this waits for it, and what it has finished is
    not done again. A DistilscopeError comes back as it is; for any other, the traceback goes to a log and a
    DistilscopeError says where.
    """
    store = Store(task.root)
    try:
        function = imported(task.function)
        with store.claim(task.identity):
            if store.has(task.identity):
                return Receipt(task.identity.fingerprint, counts=store.manifest(task.identity)["counts"])
            start = time.perf_counter()  # importing the code is not the step's own time
            counts: dict[str, Any] = {}
            with store.writing(task.identity, counts) as output:
                # A round trip through JSON: the function gets its own copy, and the same types whoever made the step.
                config = json.loads(canonical(task.identity.config)) | dict(task.local)
                inputs = {name: _sound(Path(path)) for name, path in task.inputs.items()}
                counts.update(function(config, inputs, output, store.scratch(task.identity)))
            return Receipt(task.identity.fingerprint, time.perf_counter() - start, counts)
    except BaseException as error:
        return Receipt(task.identity.fingerprint, error=_portable(error, task, store))


_sound = lru_cache(maxsize=4096)(require_sound)
"""No step works on what has changed since it was written; a worker hashes each artifact once."""


def imported(reference: str) -> Any:
    """The function that `module:name` names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _portable(error: BaseException, task: Task, store: Store) -> DistilscopeError:
    if isinstance(error, DistilscopeError):
        try:
            copy = pickle.loads(pickle.dumps(error))
        except Exception:
            copy = None
        if type(copy) is type(error) and str(copy) == str(error):
            return error
        base = next(cls for cls in type(error).__mro__ if cls.__module__ == DistilscopeError.__module__)
        return base(str(error))  # it cannot be sent as it is: the nearest class that can, with the same message
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
