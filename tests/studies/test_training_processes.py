"""Trainings that several processes share: by arithmetic, in one process; and for real, with processes that are killed
and stopped."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

import sabotage
from distilscope.distribution import Key
from distilscope.errors import DistilscopeError, UsageError
from distilscope.lm.models.llama import Llama
from distilscope.lm.training import loop, torchrun
from distilscope.lm.training.process_group import ALONE, Group, gradient_in_one
from distilscope.pipeline.local_engine import LocalEngine
from distilscope.pipeline.step import Needs, Step, order
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Task, perform
from distilscope.studies.inputs import Sources
from distilscope.studies.overrides import override
from distilscope.studies.planner import plan
from distilscope.studies.recipes.tiny import tiny
from distilscope.studies.steps.registry import functions
from fake_models import TINY, ragged

LENGTHS = [4, 1, 7, 7, 2, 9, 3, 5, 6, 2]
DATA = ragged(LENGTHS, 5, seed=1)
LOSS, WEIGHT = 5e-6, 2e-5
"""How far two processes may be from one, after 16 steps in float32: nats per token, and a weight (a step moves it by up
to 0.006)."""

SIZES = {
    "horizon": 8,
    "num_train": 64,
    "num_eval": 8,
    "ground_truth.num_validation": 16,
    "tile": 64,
    "slots": 16,
    "seeds": 1,
}
SIZES |= {
    "teacher.training.epochs": 2,
    "teacher.training.batch_sequences": 8,
    "teacher.training.checkpoint_every": 5,
    "teacher.training.precision": "float32",
}


# --- what is shared out, in one process


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_every_sequence_of_a_batch_is_in_one_share_and_shares_are_even(lengths, size):
    batch = ragged(lengths, 5, seed=1)
    shares = [Group(rank, size).share(batch) for rank in range(size)]
    assert sorted(row.tobytes() for share in shares for row in share) == sorted(row.tobytes() for row in batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    tokens = [int(share.lengths.sum()) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths)


@pytest.mark.parametrize("size", [2, 3, 12])
def test_shares_add_up_to_the_gradient_and_the_losses_of_the_whole(size):
    """With 12 processes and 10 sequences two of them have nothing to do."""
    scaler = loop._scaler(torch.float32, 1)
    whole = Llama.from_config(TINY, Key(0))
    loss = loop._backward(whole, DATA, 30, torch.float32, scaler)
    parts, losses, held_out = [], 0.0, 0.0
    for rank in range(size):
        network, group = Llama.from_config(TINY, Key(0)), Part(rank, size)
        parts.append(gradient_in_one(network))
        losses += loop._backward(network, group.share(DATA), 30, torch.float32, scaler)
        held_out += loop.held_out_loss(network, DATA, group)
    assert losses == pytest.approx(loss, abs=1e-4)
    assert held_out == pytest.approx(loop.held_out_loss(whole, DATA), abs=1e-9)
    expected = torch.cat([weight.grad.flatten() for weight in whole.parameters() if weight.grad is not None])
    torch.testing.assert_close(sum(parts), expected, atol=1e-4, rtol=1e-5)


class Part(Group):
    """One whose sums are left to the test."""

    def totals(self, *numbers: float) -> list[float]:
        return list(numbers)


def test_one_process_is_a_group_of_its_own():
    assert ALONE.share(DATA) is DATA
    assert ALONE.totals(2.5, 1.0) == [2.5, 1.0]


def test_each_process_needs_a_gpu_where_there_are_any(monkeypatch):
    from distilscope.lm import device

    device.require_devices(8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    device.require_devices(2)
    with pytest.raises(
        UsageError, match=r"training.processes is 3, but a training here sees 2 GPUs.*lower training.processes"
    ):
        device.require_devices(3)
    assert device.device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.device() == torch.device("cuda:1")
    assert [device.collectives(torch.device(name)) for name in ("cuda", "cpu")] == ["nccl", "gloo"]


TOLD = """
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  time      : 2026-11-24_12:00:00
  rank      : 0 (local_rank: 0)
  exitcode  : {0} (pid: 11)
[1]:
  time      : 2026-11-24_12:00:00
  rank      : 1 (local_rank: 1)
  exitcode  : {1} (pid: 12)
"""


@pytest.mark.parametrize(
    ("codes", "refusal", "kind", "says"),
    [
        ((1, -9), None, DistilscopeError, "number 1 of 2, killed by SIGKILL); likely out of memory"),
        (
            (-15, -9),
            ("RuntimeError", "lost touch"),
            DistilscopeError,
            "number 1 of 2, killed by SIGKILL); likely out of memory",
        ),
        ((-15, 1), ("GateError", "z"), DistilscopeError, "number 0 of 2, killed by SIGTERM); run again"),
        ((1, 1), ("UsageError", "the loss is nan"), UsageError, "the loss is nan"),
        (
            (1, 1),
            ("SafetensorError", "No space left"),
            RuntimeError,
            "SafetensorError in one of 2 processes: No space left",
        ),
        ((1, 1), None, DistilscopeError, "torchrun ended with exit status 1"),
    ],
)
def test_what_is_said_of_a_failure(tmp_path, codes, refusal, kind, says):
    (tmp_path / "log").write_text(TOLD.format(*codes))
    if refusal:
        torchrun.refused(type(refusal[0], (Exception,), {})(refusal[1]), tmp_path)
        torchrun.refused(ConnectionError("the others only lost touch"), tmp_path)
    failure = torchrun._failure(1, tmp_path / "log", tmp_path / torchrun.REFUSAL, 2)
    assert type(failure) is kind
    assert says in str(failure)


# --- how many may run


@pytest.mark.parametrize(
    ("slots", "busy", "asked", "free"),
    [
        (2, [], Needs(processes=2), True),
        (2, [Needs()], Needs(processes=2), False),
        (2, [Needs()], Needs(), True),
        (2, [Needs(processes=2)], Needs(), False),
        (3, [Needs(processes=2)], Needs(processes=2), False),
        (4, [Needs(processes=2)], Needs(threads=2), True),
    ],
)
def test_a_step_takes_a_slot_for_each_of_its_processes(tmp_path, slots, busy, asked, free):
    store = Store(tmp_path)
    with store.lock(), LocalEngine(store, slots=slots) as engine:
        for needs in busy:
            assert engine.takes(needs)
            step = Step("sleep", {"seconds": 600}, {}, 1, needs=needs)
            engine.submit(Task.of(step, "time:sleep", store))
        assert engine.takes(asked) == free


def test_more_processes_than_slots_are_refused_before_anything_runs(tmp_path):
    step = teacher(3)
    with pytest.raises(UsageError, match="in 3 processes with 1 threads, but 2 cores may be busy"):
        sabotage.run(step, tmp_path)
    assert not list(tmp_path.glob("[!.]*"))


def test_processes_are_part_of_what_a_training_is():
    assert teacher(1) != teacher(2)
    assert teacher(1).local == teacher(2).local, "but it is the same training"
    assert teacher(2).needs == Needs(processes=2)
    assert teacher(1, seeds=2).local == teacher(1).local
    assert teacher(1, learning_rate=1e-3).local != teacher(1).local
    config = override(tiny(), {"teacher.training.processes": 4, "resources.train_gpus": 1})
    needs = {step.stage: step.needs for step in order(plan(config, Sources.locate(config)).targets)}
    assert (needs["train teachers"], needs["train students"]) == (Needs(processes=4, gpus=4), Needs(gpus=1))


# --- for real


def teacher(processes: int, *, seeds: int = 1, learning_rate: float = 6e-3) -> Step:
    """The training of a teacher of 16 steps, with checkpoints after 5, 10 and 15."""
    settings = {
        "teacher.training.processes": processes,
        "teacher.training.learning_rate": learning_rate,
        "seeds": seeds,
    }
    config = override(tiny(), SIZES | settings)
    return plan(config, Sources.locate(config)).teachers[0].model


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A store with what the teacher learns from."""
    store = Store(tmp_path_factory.mktemp("drawn"))
    for step in order([teacher(2)])[:-1]:
        assert perform(Task.of(step, functions()[step.kind], store)).error is None
    return store.root


@pytest.fixture
def store(drawn, tmp_path) -> Store:
    return Store(shutil.copytree(drawn, tmp_path / "store"))


@pytest.fixture(scope="module")
def undisturbed(drawn, tmp_path_factory) -> Store:
    """Its processes would not survive being taken down in order, and need not."""
    store = Store(shutil.copytree(drawn, tmp_path_factory.mktemp("undisturbed") / "store"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SABOTAGE", "abort at exit")
        sabotage.run(teacher(2), store.root)
    return store


def same(store: Store, undisturbed: Store) -> bool:
    """Hash by hash; both were found to be what their manifests say."""
    assert store.verify([teacher(2)]) == undisturbed.verify([teacher(2)]) == []
    return store.manifest(teacher(2)) == undisturbed.manifest(teacher(2))


def standing(store: Store, step: Step) -> dict:
    """Where its last checkpoint stands, which is whole."""
    with safe_open(store.scratch(step) / "checkpoint.safetensors", framework="pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118 (no mapping)
        return json.loads(file.metadata()["standing"])


def record(store: Store, step: Step) -> dict:
    return json.loads((store.path(step) / "training.json").read_text())


def close(one: Store, a: Step, other: Store, b: Step) -> None:
    """The same training within the tolerances above."""
    for mine, theirs in zip(record(one, a)["history"], record(other, b)["history"], strict=True):
        assert mine["step"] == theirs["step"]
        assert mine["training_loss"] == pytest.approx(theirs["training_loss"], abs=LOSS)
        assert mine["held_out_loss"] == pytest.approx(theirs["held_out_loss"], abs=LOSS)
    mine, theirs = (load_file(store.path(step) / "model.safetensors") for store, step in ((one, a), (other, b)))
    for name, weight in mine.items():
        torch.testing.assert_close(weight, theirs[name], atol=WEIGHT, rtol=0)


def alone(store: Store) -> Step:
    """The same training in one process, done."""
    step = teacher(1)
    assert perform(Task.of(step, functions()["training"], store)).error is None
    return step


@pytest.mark.slow
def test_two_processes_train_as_one_does(store, undisturbed):
    step = alone(store)
    close(store, step, undisturbed, teacher(2))
    for where, what, processes in ((store, step, 1), (undisturbed, teacher(2), 2)):
        assert (record(where, what)["processes"], record(where, what)["exact_resume"]) == (processes, True)
        assert where.manifest(what)["counts"]["exact_resume"] is True


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["step", "save"])
def test_a_killed_process_ends_the_step_and_the_next_run_goes_on(store, undisturbed, monkeypatch, chance, moment):
    who, number = (chance.randrange(2), chance.randrange(6, 17)) if moment == "step" else (0, chance.randrange(2, 4))
    at = (number - 1) // 5 * 5 if moment == "step" else 5 * (number - 1)
    monkeypatch.setenv("SABOTAGE", f"kill {who} in {moment} {number}")
    with pytest.raises(
        DistilscopeError,
        match=rf"number {who} of 2, killed by SIGKILL\); likely out of memory.*from its last checkpoint",
    ):
        sabotage.run(teacher(2), store.root)
    assert not store.has(teacher(2))
    assert standing(store, teacher(2))["step"] == at
    monkeypatch.delenv("SABOTAGE")
    copy = Store(shutil.copytree(store.root, store.root.with_name("copy")))
    sabotage.run(teacher(2), store.root)
    assert same(store, undisturbed)

    step = alone(copy)  # goes on where the two were
    close(copy, step, undisturbed, teacher(2))
    assert record(copy, step)["exact_resume"] is False
    assert copy.manifest(step)["counts"]["exact_resume"] is False


@pytest.mark.slow
def test_two_processes_go_on_where_one_was(store, undisturbed, monkeypatch):
    step = teacher(1)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_backward", sabotage.counting(loop._backward, 13, stop))
        assert isinstance(perform(Task.of(step, functions()["training"], store)).error, DistilscopeError)
    assert standing(store, step)["step"] == 10
    sabotage.run(teacher(2), store.root)
    assert record(store, teacher(2))["exact_resume"] is False
    close(store, teacher(2), undisturbed, teacher(2))


def stop(*_):
    raise DistilscopeError("enough")


@pytest.mark.slow
def test_neither_sigkill_nor_sigterm_of_a_run_leaves_a_process_or_harms_it(store, undisturbed, tmp_path):
    note = tmp_path / "note"

    def begun() -> tuple[subprocess.Popen, list[int]]:
        """A run whose two training processes are at work, and their ids."""
        note.unlink(missing_ok=True)
        code = f"import sabotage, test_training_processes as t; sabotage.run(t.teacher(2), t.Path({str(store.root)!r}))"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "SABOTAGE": "linger in step 3",
            "NOTE": str(note),
        }
        run = subprocess.Popen([sys.executable, "-c", code], env=environment)
        until(lambda: note.exists() and len(set(note.read_text().split())) == 2)
        return run, [int(pid) for pid in set(note.read_text().split())]

    run, processes = begun()
    run.kill()
    run.wait()
    until(lambda: not any(map(alive, processes)))
    assert not (store.scratch(teacher(2)) / "checkpoint.safetensors").exists()

    run, processes = begun()
    run.terminate()
    assert run.wait(60) == 143
    assert not any(map(alive, processes))
    assert 3 <= standing(store, teacher(2))["step"] < 5, "before any checkpoint was due"

    sabotage.run(teacher(2), store.root)
    assert same(store, undisturbed)


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
