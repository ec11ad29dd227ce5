from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import work
from work import WORK, lone, plan, tree

import distilscope
from distilscope.errors import DistilscopeError, GateError, StoreError, UsageError
from distilscope.pipeline.execute import execute, needed
from distilscope.pipeline.local_engine import PATIENCE
from distilscope.pipeline.progress import SilentWatcher
from distilscope.pipeline.schedule import Schedule, makespan
from distilscope.pipeline.step import Needs, Step, order
from distilscope.pipeline.store import Store
from distilscope.system.signals import defer_exit, exit_on_sigterm, stop_requested
from in_process import InProcess
from small_study import PLANTED, SECRETS

SOURCES = os.pathsep.join([str(Path(distilscope.__file__).parents[1]), str(Path(__file__).parent)])


class Diary(SilentWatcher):
    """Writes down what it hears."""

    def __init__(self):
        self.events: list[tuple[str, str]] = []
        self.kept = -1
        self.most = self.running = 0

    def begin(self, todo, *, kept, slots):  # noqa: ARG002
        self.kept = kept
        self.events.append(("begin", str(len(todo))))

    def started(self, step):
        self.running += 1
        self.most = max(self.most, self.running)
        self.events.append(("started", step.fingerprint))

    def finished(self, step, seconds, counts):  # noqa: ARG002
        self.running -= 1
        self.events.append(("finished", step.fingerprint))

    def note(self, sentence):
        self.events.append(("noted", sentence))

    def end(self):
        self.events.append(("end", ""))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    """The bytes of a run with one worker that nothing disturbed."""
    store = Store(tmp_path_factory.mktemp("undisturbed") / "store")
    execute(plan(0.1), store, work=WORK, workers=1, watch=SilentWatcher())
    return tree(store.root)


def run(targets: list[Step], store: Store, *, workers: int = 1, watch=None, **options):
    return execute(targets, store, work=WORK, workers=workers, watch=watch or SilentWatcher(), **options)


def main_process(store: Store, *, workers: int = 2, **environment: object) -> subprocess.Popen[str]:
    command = [sys.executable, work.__file__, str(store.root), str(workers), "0.1"]
    env = os.environ | {"PYTHONPATH": SOURCES} | {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# What runs, and in which order.


def test_everything_runs_once_inputs_first_and_the_records_say_so(store):
    diary = Diary()
    targets = plan()
    records = run(targets, store, workers=2, watch=diary)
    steps = order(targets)
    assert [(r.stage, r.kind, r.fingerprint, r.tokens) for r in records] == [
        (s.stage, s.kind, s.fingerprint, s.tokens) for s in steps
    ]
    assert all(record.seconds > 0 for record in records)
    assert store.verify(steps) == []
    for step in steps:
        for source in step.inputs.values():
            assert diary.events.index(("finished", source.fingerprint)) < diary.events.index(
                ("started", step.fingerprint)
            )
    assert diary.most == 2
    assert diary.events[0] == ("begin", "13")
    assert diary.events[-1] == ("end", "")
    again = Diary()
    assert run(targets, store, watch=again) == []
    assert again.events == [("begin", "0"), ("end", "")]
    assert again.kept == 13


def test_one_worker_takes_the_stable_order(store):
    diary = Diary()
    run(plan(), store, watch=diary)
    assert [fingerprint for what, fingerprint in diary.events if what == "started"] == [
        step.fingerprint for step in order(plan())
    ]


def test_inputs_of_an_existing_artifact_need_not_exist(store):
    targets = plan()
    run(targets, store, engine=InProcess())
    steps = order(targets)
    for step in steps:
        if step.kind != "student":
            store.discard(store.path(step))
    # Scores read students, which exist, and the data, which does not; teachers and draws are of no use any more.
    assert [step.kind for step in needed(targets, store)] == ["data", "score", "score", "score", "score"]
    diary = Diary()
    run(targets, store, engine=InProcess(3), watch=diary)
    assert diary.kept == 8
    assert needed(targets, store) == []
    assert not any(store.has(step) for step in steps if step.kind == "draws")


def test_a_finished_store_is_read_without_being_written(store):
    run(plan(), store, engine=InProcess())
    holder = Store(store.root)
    with holder.lock():
        assert run(plan(), store) == []


def test_needed_of_thousands_of_steps(store):
    step = lone("data", n=0)
    for n in range(1, 3_000):
        step = Step("data", {"n": n}, {"previous": step}, 1)
    assert len(needed([step], store)) == 3_000


def test_a_schedule_gives_the_first_ready_step():
    a, b = lone("data", n="a"), lone("data", n="b")
    c, d = Step("c", {}, {"x": a, "y": a}, 1), Step("d", {}, {"x": b, "absent": lone("elsewhere")}, 1)
    schedule = Schedule([a, c, b, d])
    assert [schedule.first, schedule.next(), schedule.next(), schedule.next(), schedule.first] == [a, a, b, None, None]
    schedule.done(b)
    schedule.done(a)
    assert [schedule.next(), schedule.next(), schedule.next(), schedule.unfinished] == [c, d, None, 2]
    assert makespan([a, c, b, d], {a: 1.0, b: 3.0, c: 4.0, d: 1.0}, 2) == 5.0
    assert makespan([a, c, b, d], {a: 1.0, b: 3.0, c: 4.0, d: 1.0}, 1) == 9.0
    wide = Step("wide", {}, {}, 1, needs=Needs(threads=2))
    assert (
        makespan([a, wide, b], {a: 1.0, wide: 2.0, b: 3.0}, 2) == 6.0
    )  # it waits for both cores, and the others for it
    assert makespan([a, wide, b], {a: 1.0, wide: 2.0, b: 3.0}, 3) == 4.0


# The same bytes, whatever happens.


def test_two_workers_and_shuffled_targets_write_the_same_bytes(store, undisturbed):
    targets = plan(0.1)
    random.Random(0).shuffle(targets)
    run(targets, store, workers=2)
    assert tree(store.root) == undisturbed


@pytest.mark.parametrize("finished", [1, 6])
def test_after_a_kill_only_what_was_missing_runs_and_the_bytes_are_the_same(store, undisturbed, tmp_path, finished):
    with main_process(store) as process:
        until(lambda: len(list(store.root.glob("[!.]*/*/manifest.json"))) >= finished)
        workers = children(process.pid)
        assert 1 <= len(workers) <= 2
        process.kill()
    until(lambda: not any(map(alive, workers)))
    steps = order(plan(0.1))
    kept = [step for step in steps if store.has(step)]
    assert finished <= len(kept) < len(steps)
    assert store.verify(kept) == []
    with main_process(store, RUN_LOG=tmp_path / "log") as process:
        assert process.wait(300) == 0
    ran = (tmp_path / "log").read_text().splitlines()
    assert sorted(ran) == sorted(f"{step.kind}-{step.fingerprint[:16]}" for step in steps if step not in kept)
    assert tree(store.root) == undisturbed


def test_sigterm_ends_the_workers_and_the_exit_code_is_143(store):
    with main_process(store) as process:
        until(lambda: list(store.root.glob("[!.]*/*/manifest.json")))
        workers = children(process.pid)
        process.terminate()
        assert process.wait(300) == 143
        assert process.stderr is not None
        said = process.stderr.read()
    assert not any(map(alive, workers))
    assert not (store.root / ".partial").exists()
    assert "Traceback" not in said
    assert "finished and kept" in said


def test_a_second_sigterm_leaves_at_once(store):
    """Here beside a step that would keep the first one waiting."""
    code = f"""if True:
        from distilscope.pipeline.execute import execute
        from distilscope.pipeline.progress import ProgressLines
        from distilscope.pipeline.store import Store
        from work import WORK, lone
        import sys
        execute([lone("stubborn")], Store({str(store.root)!r}), work=WORK, workers=1, watch=ProgressLines(sys.stderr))
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": SOURCES}, stderr=subprocess.PIPE, text=True
    ) as run:
        until(lambda: list(store.root.glob(".scratch/*/begun")))
        workers = children(run.pid)
        run.terminate()
        assert run.stderr is not None
        while "a second signal leaves at once" not in run.stderr.readline():
            assert run.poll() is None
        time.sleep(0.3)
        assert run.poll() is None
        start = time.monotonic()
        run.terminate()
        assert run.wait() == 143
        assert time.monotonic() - start < PATIENCE / 2
    until(lambda: not any(map(alive, workers)))
    with store.lock():
        assert not (store.root / ".partial").exists()


def test_a_handler_that_the_program_has_set_stays():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with exit_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as caught, exit_on_sigterm(), exit_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_step_may_hear_of_sigterm_and_finish():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with stop_requested() as told:
        assert not told()
        signal.raise_signal(signal.SIGTERM)
        assert told()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_exit_waits_for_lines_that_must_not_be_cut_in_two():
    done = []

    def interrupted():
        with exit_on_sigterm(), defer_exit():
            signal.raise_signal(signal.SIGTERM)
            done.append("the line after")
        done.append("never")

    with pytest.raises(SystemExit):
        interrupted()
    assert done == ["the line after"]


def test_no_process_outlives_a_killed_parent_not_even_one_that_a_step_has_started(store, tmp_path):
    note = tmp_path / "note"
    code = f"""if True:
        from distilscope.pipeline.execute import execute
        from distilscope.pipeline.progress import SilentWatcher
        from distilscope.pipeline.store import Store
        from work import WORK, lone
        store = Store({str(store.root)!r})
        execute([lone("child", note={str(note)!r})], store, work=WORK, workers=1, watch=SilentWatcher())
    """
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": SOURCES}) as process:
        until(lambda: note.exists() and len(note.read_text().split()) == 2)
        pids = [int(pid) for pid in note.read_text().split()]
        assert all(map(alive, pids))
        process.kill()
    until(lambda: not any(map(alive, pids)))
    with store.lock():
        assert not (store.root / ".partial").exists()


def test_a_script_needs_no_main_guard(store, tmp_path):
    script = tmp_path / "script.py"
    lines = [
        "from distilscope.pipeline.execute import execute",
        "from distilscope.pipeline.progress import SilentWatcher",
        "from distilscope.pipeline.store import Store",
        "from work import WORK, plan",
        f"print(len(execute(plan(), Store({str(store.root)!r}), work=WORK, workers=2, watch=SilentWatcher())))",
    ]
    script.write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": SOURCES}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("13\n", "", 0)


# Errors.


def test_an_error_of_ours_crosses_the_process_boundary_as_it_is(store):
    with pytest.raises(GateError) as caught:
        run([lone("gate")], store)
    assert type(caught.value) is GateError
    assert str(caught.value) == "z = 7.1, but |z| must stay below 4; check the temperature"


def test_an_error_that_cannot_be_sent_comes_as_its_nearest_base(store):
    with pytest.raises(GateError) as caught:
        run([lone("odd")], store)
    assert str(caught.value) == "3 breaks the rule"


def test_another_error_names_the_step_and_the_log_with_its_traceback(store, capfd):
    step = lone("bug")
    with pytest.raises(
        DistilscopeError, match=rf"the step 'the bug' \(bug/{step.fingerprint[:12]}\) failed with KeyError: 'weights'"
    ) as caught:
        run([step], store)
    log = Path(str(caught.value).rsplit(" ", 1)[1])
    assert log.parent == store.root / ".logs"
    assert 'raise KeyError("weights")' in log.read_text()
    assert capfd.readouterr() == ("", "")


def test_work_that_does_not_exist_is_told(store):
    with pytest.raises(DistilscopeError, match="AttributeError: module 'work' has no attribute 'no_such_function'"):
        run([lone("lost")], store)
    with pytest.raises(DistilscopeError, match="nothing says how to run a step of kind 'unheard'; known: big, bug, "):
        run([lone("unheard")], store)


def test_running_out_of_memory_is_told_with_its_remedy(store):
    with pytest.raises(DistilscopeError, match=r"failed with MemoryError.*use fewer workers"):
        run([lone("big")], store)


@pytest.mark.parametrize(("kind", "how"), [("kill", "killed by SIGKILL"), ("exit", "exit status 3")])
def test_a_worker_that_dies_twice_is_told_with_the_step_it_ran(store, kind, how):
    step, diary = lone(kind), Diary()
    with pytest.raises(
        DistilscopeError,
        match=(
            rf"a worker process died while running the step 'the {kind}' .*\({how}\); likely out of memory: use "
            r"fewer workers"
        ),
    ):
        run([step], store, watch=diary)
    assert [what for what, _ in diary.events] == ["begin", "started", "noted", "end"]
    assert not store.has(step)
    assert not (store.root / ".partial").exists()


def test_an_error_stops_the_others_at_once_and_keeps_what_is_finished(store):
    quick, slow = lone("sleep", seconds=0), lone("sleep", seconds=600)
    late = Step("bug", {}, {"after": quick}, 1)
    start, others = time.monotonic(), children(os.getpid())
    with pytest.raises(DistilscopeError, match="KeyError"):
        run([slow, late], store, workers=2)
    assert time.monotonic() - start < 50
    assert store.has(quick)
    assert not store.has(slow)
    assert set(children(os.getpid())) <= set(others)
    with Store(store.root).lock():
        pass


def test_a_step_whose_worker_died_is_started_once_more_and_finds_its_checkpoint(store):
    step, diary = lone("resume"), Diary()
    assert len(run([step], store, watch=diary)) == 1
    assert [what for what, _ in diary.events] == ["begin", "started", "noted", "finished", "end"]
    assert (
        f"died while running the step 'the resume' (resume/{step.fingerprint[:12]}) (killed by SIGKILL)"
        in diary.events[2][1]
    )
    assert diary.events[2][1].endswith("; it is started once more")
    assert (store.path(step) / "weights").read_text() == "half way"
    assert list((store.root / ".scratch").iterdir()) == []


def test_a_store_in_use_is_left_alone(store):
    with Store(store.root).lock(), pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        run(plan(), store)


# What a worker sees.


def test_threads_are_set_before_anything_is_imported_and_leave_no_trace_here(store, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    step = Step("environment", {}, {}, 1, needs=Needs(threads=3))
    run([step], store, workers=3)
    assert (store.path(step) / "seen.txt").read_text() == "3 3 False"
    assert store.manifest(step)["counts"] == {"threads": 3}
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_no_secret_of_the_environment_reaches_a_file_or_a_message(store, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["distilscope", "--token", SECRETS["HF_TOKEN"]])
    step = lone("spill")
    with pytest.raises(DistilscopeError) as worker:
        run([step], store)
    with pytest.raises(DistilscopeError) as here:
        run([step], store, engine=InProcess())
    for error in (worker, here):
        assert "failed with RuntimeError: refused, with the header" in str(error.value)
        assert PLANTED not in str(error.value)
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {".lock", "worker-0.log", f"spill-{step.fingerprint[:12]}.log"}
    assert not [path for path in files if PLANTED in path.read_text()]


def wide_and_narrow() -> list[Step]:
    """Steps of one and of two threads in turn."""
    return [Step("interval", {"n": n}, {}, 1, needs=Needs(threads=1 + n % 2)) for n in range(8)]


@pytest.mark.parametrize(("slots", "most"), [(2, 2), (3, 3)])
def test_running_steps_have_no_more_threads_than_there_are_slots(store, slots, most):
    steps = wide_and_narrow()
    run(steps, store, workers=slots)
    changes = []
    for step in steps:
        began, ended, threads = (store.path(step) / "interval").read_text().split()
        assert int(threads) == step.needs.threads
        changes += [(float(began), step.needs.threads), (float(ended), -step.needs.threads)]
    busy = [sum(change for _, change in sorted(changes)[: i + 1]) for i in range(len(changes))]
    assert max(busy) == most


def test_a_step_of_more_threads_than_may_run_is_refused(store):
    with pytest.raises(UsageError, match="in 1 processes with 4 threads, but 2 cores may be busy at once"):
        run([Step("environment", {}, {}, 1, needs=Needs(threads=4))], store, workers=2)


@pytest.mark.parametrize("needs", [{"threads": 0}, {"gpus": -1}])
def test_needs_are_counts(needs):
    with pytest.raises(ValueError, match="threads are at least 1, GPUs at least 0"):
        Needs(**needs)


def test_needs_are_not_what_a_step_is():
    assert Step("data", {}, {}, 1, needs=Needs(gpus=4)) == Step("data", {}, {}, 1)


def test_what_a_step_prints_goes_to_a_log(store, capfd):
    run([lone("noise")], store)
    assert capfd.readouterr() == ("", "")
    assert (store.root / ".logs" / "worker-0.log").read_text() == "a library talks\n"
    run([lone("sleep", seconds=0)], store)
    assert list((store.root / ".logs").iterdir()) == []


def test_there_is_at_least_one_worker(store):
    with pytest.raises(ValueError, match="at least 1"):
        run([lone("noise")], store, workers=0)
