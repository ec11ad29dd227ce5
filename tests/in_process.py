"""Commands and steps in this process, where it is not processes that are tested: each would take seconds to start."""

from __future__ import annotations

import contextlib
import io
import os
from types import SimpleNamespace
from unittest import mock

from jaxtyping import config

from distilscope.cli.main import main
from distilscope.pipeline.task import Receipt, Task, perform
from small_study import SECRETS


class InProcess:
    """An engine that performs tasks in this process, when asked for receipts."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.tasks: list[Task] = []

    def takes(self, needs) -> bool:  # noqa: ARG002
        return len(self.tasks) < self.slots

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def collect(self, timeout: float) -> list[Receipt]:  # noqa: ARG002
        return [perform(self.tasks.pop())]

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.tasks.clear()


def steps_in_process():
    """Inside, what would start worker processes performs its steps here."""
    return mock.patch("distilscope.pipeline.execute.LocalEngine", side_effect=lambda *_, **__: InProcess())


def in_process(*words, check: bool = True) -> SimpleNamespace:
    """The command `words`, as `small_study.distilscope` runs it in a process of its own: returncode, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    checked = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)  # as users run it
    try:
        with (
            steps_in_process(),
            mock.patch.dict(os.environ, SECRETS),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    finally:
        config.update("jaxtyping_disable", checked)
    assert not check or code == 0, err.getvalue()
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
