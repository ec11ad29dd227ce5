"""Two processes never work on one step of a store, whichever machines they run on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import distilscope
from distilscope.errors import StoreError
from distilscope.pipeline import store as store_module
from distilscope.pipeline.step import Identity, Step
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Task, perform

CLAIM = """if True:
    import sys, time
    from distilscope.pipeline.step import Identity
    from distilscope.pipeline.store import Store
    with Store(sys.argv[1]).claim(Identity("data", {}, {}, 1)):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def claimant(store):
    """Another process, at work on a step."""
    command = [sys.executable, "-c", CLAIM, str(store.root)]
    environment = os.environ | {"PYTHONPATH": str(Path(distilscope.__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_step_is_worked_on_by_one_process_and_the_next_begins_when_that_is_dead(store, claimant):
    claimed = []

    def claim():
        with store.claim(Identity("data", {}, {}, 1)):
            claimed.append(time.monotonic())

    waiting = threading.Thread(target=claim)
    waiting.start()
    with store.claim(Identity("data", {"another": "step"}, {}, 1)):
        pass
    time.sleep(0.3)
    assert claimed == []
    claimant.kill()
    waiting.join(10)
    assert len(claimed) == 1


def test_the_next_run_waits_for_workers_of_a_dead_one(store, claimant):
    threading.Timer(0.5, claimant.kill).start()
    start = time.monotonic()
    with store.lock():
        assert time.monotonic() - start > 0.4
    assert list((store.root / ".claims").iterdir()) == []


def test_workers_of_a_dead_run_that_do_not_end_are_told(store, claimant, monkeypatch):
    monkeypatch.setattr(store_module, "ORPHAN_PATIENCE", 0.2)
    with (
        pytest.raises(
            StoreError, match=r"a worker of an earlier run is still at the step [0-9a-f]{12}; wait until it ends"
        ),
        store.lock(),
    ):
        pass
    claimant.kill()
    claimant.wait()
    with store.lock():
        pass


def test_a_claim_that_was_removed_meanwhile_is_made_again(store):
    """Whoever waits for a claim when the next run removes it must not hold what others do not see."""
    identity = Identity("data", {}, {}, 1)
    file = store.root / ".claims" / identity.fingerprint
    with store.claim(identity):
        held = os.open(file, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    seen = []

    def claim():
        with store.claim(identity):
            seen.append(file.exists())

    waiting = threading.Thread(target=claim)
    waiting.start()
    time.sleep(0.2)
    file.unlink()
    os.close(held)
    waiting.join(10)
    assert seen == [True]


def test_what_another_attempt_has_finished_is_not_done_again(store):
    step = Step("bug", {}, {}, 1)
    with store.writing(step, {"tokens": 3}):
        pass
    receipt = perform(Task.of(step, "work:bug", store))
    assert (receipt.error, receipt.counts, receipt.seconds) == (None, {"tokens": 3}, 0.0)


def test_an_artifact_of_another_machine_is_waited_for(store, tmp_path):
    step = Step("data", {}, {}, 1)

    def finish():
        with store.writing(step):
            pass

    threading.Timer(0.3, finish).start()
    store.await_artifact(store.path(step), patience=20.0)
    assert store.has(step)
    with pytest.raises(
        StoreError, match=r"was finished, but .* does not see it; put the store in a folder that all nodes share"
    ):
        store.await_artifact(tmp_path / "kind" / "absent", patience=0.1)
