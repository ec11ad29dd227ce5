"""The Ray engine on one cluster of this machine: the same bytes, the same errors, and nothing said that should not
be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import work
from hypothesis import given
from hypothesis import strategies as st
from work import WORK, lone, plan, tree

import distilscope
from distilscope.errors import DistilscopeError, GateError
from distilscope.pipeline.engine import ALLOCATOR_SETTINGS, thread_settings
from distilscope.pipeline.execute import execute
from distilscope.pipeline.progress import SilentWatcher
from distilscope.pipeline.ray import cluster as ray_cluster
from distilscope.pipeline.ray.cluster import ask_nodes, connect
from distilscope.pipeline.ray.engine import GROUP_SECONDS, RayEngine, grouped
from distilscope.pipeline.ray.tasks import Driver, perform_all
from distilscope.pipeline.step import Needs, Step
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Task

pytest.importorskip("ray")

TOKEN = "a-token-that-must-be-found-nowhere"
SOURCES = os.pathsep.join([str(Path(distilscope.__file__).parents[1]), str(Path(__file__).parent)])


@pytest.fixture(scope="module")
def session():
    """A cluster of two cores that this process is connected to; the folder of Ray's own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        before = dict(os.environ)
        cluster = connect(None, cores=2, environment=ALLOCATOR_SETTINGS | thread_settings(1))
        assert dict(os.environ) == before
        import ray

        yield Path(ray._private.worker._global_node.get_session_dir_path())
        cluster.end()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def run(targets: list[Step], store: Store):
    return execute(targets, store, work=WORK, workers=2, watch=SilentWatcher(), engine=RayEngine(store, cores=2))


@pytest.mark.usefixtures("session")
class TestOnACluster:
    def test_the_bytes_are_those_of_local_workers(self, store, tmp_path, capfd):
        targets = plan()
        records = run(targets, store)
        assert len(records) == 13
        assert all(record.seconds > 0 for record in records)
        local = Store(tmp_path / "local")
        execute(targets, local, work=WORK, workers=1, watch=SilentWatcher())
        assert tree(store.root) == tree(local.root)
        assert run(targets, store) == []
        assert capfd.readouterr() == ("", "")

    def test_every_node_with_so_many_gpus_answers_a_question(self):
        (here,), with_gpus = ask_nodes("auto", "os:getpid", (0, 1))
        assert here != os.getpid()
        assert with_gpus == []

    def test_steps_see_their_threads_and_what_they_print_goes_to_the_stores_logs(self, store, capfd):
        one, two = (Step("environment", {}, {"noise": lone("noise", n=n)}, 1, needs=Needs(threads=n)) for n in (1, 2))
        run([one, two], store)
        assert [(store.path(step) / "seen.txt").read_text() for step in (one, two)] == ["1 1 False", "2 2 False"]
        assert "".join(log.read_text() for log in (store.root / ".logs").iterdir()) == "a library talks\n" * 2
        assert capfd.readouterr() == ("", "")

    def test_an_error_of_ours_crosses_as_it_is_and_another_names_its_log(self, store):
        with pytest.raises(GateError, match=r"z = 7.1, but \|z\| must stay below 4"):
            run([lone("gate")], store)
        with pytest.raises(
            DistilscopeError, match=r"the step 'the bug' .* failed with KeyError: 'weights'; .* traceback is in"
        ) as caught:
            run([lone("bug")], store)
        assert 'raise KeyError("weights")' in Path(str(caught.value).rsplit(" ", 1)[1]).read_text()

    def test_a_step_that_kills_its_process_every_time_is_told(self, store):
        step = lone("kill")
        with pytest.raises(
            DistilscopeError, match=r"died while running the step 'the kill' .* 4 times in a row .* use fewer workers"
        ):
            run([step], store)
        assert not store.has(step)

    def test_a_step_whose_process_died_once_goes_on_from_its_checkpoint(self, store):
        step = lone("resume")
        assert len(run([step], store)) == 1
        assert (store.path(step) / "weights").read_text() == "half way"

    @pytest.mark.parametrize("kind", ["told", "terminated"])
    def test_a_step_whose_process_was_stop_requested_is_done_by_another(self, store, kind):
        """As when its node is shut down: the run itself was not told."""
        step = lone(kind)
        assert len(run([step], store)) == 1
        assert (store.path(step) / "lives").read_text() == "2"

    def test_needs_that_no_node_meets_are_told(self, store):
        for needs, told in (
            (Needs(gpus=1), "1 cores and 1 GPUs .* lower --resources.train_gpus"),
            (Needs(threads=3), "3 cores on one machine"),
        ):
            with pytest.raises(DistilscopeError, match=f"a step needs {told}"):
                run([Step("data", {"name": "d", "sleep": 0}, {}, 1, needs=needs)], store)

    def test_the_session_asks_for_its_token_and_keeps_it_out_of_its_files(self, session, monkeypatch):
        import ray

        address = ray.get_runtime_context().gcs_address
        files = [path for path in session.rglob("*") if path.is_file()]
        assert len(files) > 10
        assert not any(TOKEN.encode() in path.read_bytes() for path in files)
        monkeypatch.setattr(ray_cluster, "ANSWER_TIMEOUT", 4.0)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
        with pytest.raises(
            DistilscopeError, match=f"the Ray cluster at {address} asks for another token; set RAY_AUTH_TOKEN"
        ):
            ray_cluster._require_answer(address)


# What needs no cluster.


def task(store: Store, title: str = "a", **needs: int) -> Task:
    return replace(Task.of(lone("sleep", seconds=0), WORK["sleep"], store), title=title, needs=Needs(**needs))


@given(
    times=st.lists(
        st.tuples(st.sampled_from([0.0, 0.01, 0.03, 0.1, GROUP_SECONDS, 2.0]), st.integers(1, 2)), max_size=30
    ),
    idle=st.integers(0, 4),
)
def test_groups_keep_the_order_and_are_neither_long_nor_fewer_than_idle_cores(times, idle):
    tasks = [(task(Store("store"), title=str(i), threads=number), seconds) for i, (seconds, number) in enumerate(times)]
    groups = grouped(tasks, idle)
    assert [each for group in groups for each in group] == [each for each, _ in tasks]
    expected = {each.title: seconds for each, seconds in tasks}
    for group in groups:
        assert len({each.needs for each in group}) == 1
        assert sum(expected[each.title] for each in group[:-1]) < GROUP_SECONDS + 1e-9 or len(group) == 1
    alike = {number for _, number in times}
    longest = max((seconds for seconds, _ in times), default=0.0)
    if len(alike) == 1 and longest and idle:
        most = min(GROUP_SECONDS, sum(seconds for seconds, _ in times) / idle)
        assert all(sum(expected[each.title] for each in group) < most + longest + 1e-9 for group in groups)


@pytest.mark.parametrize(
    ("seconds", "idle", "sizes"),
    [
        ([0.03] * 20, 0, [9, 9, 2]),
        ([0.03] * 4, 2, [2, 2]),  # no core idles for the sake of a group
        ([GROUP_SECONDS] * 3, 2, [1, 1, 1]),
        ([0.01, 5.0, 0.01], 0, [2, 1]),
        ([], 2, []),
    ],
)
def test_small_tasks_are_sent_together(seconds, idle, sizes):
    assert [len(group) for group in grouped([(task(Store("store")), each) for each in seconds], idle)] == sizes


def test_a_node_with_another_store_or_other_versions_is_refused(store):
    with store.lock():
        one, sender = task(store), Driver.of(store)
        for other, told in (
            (
                replace(sender, holder="1\nelsewhere\n"),
                "is not the one that this run has locked; put it in a folder that all nodes share",
            ),
            (
                replace(sender, versions=(("torch", "0.1"),)),
                "has torch .*, but this run has 0.1, and results must not depend on the node",
            ),
        ):
            (receipt,) = perform_all([one], other)
            assert isinstance(receipt.error, DistilscopeError)
            with pytest.raises(DistilscopeError, match=told):
                raise receipt.error
        assert not store.has(one.identity)
        assert perform_all([one], sender)[0].error is None
        assert store.has(one.identity)


def test_after_a_failure_the_rest_of_a_group_is_not_begun(store):
    with store.lock():
        gate = Task.of(lone("gate"), WORK["gate"], store)
        first, failed = perform_all([task(store), gate, replace(task(store), title="late")], Driver.of(store))
    assert first.error is None
    assert type(failed.error) is GateError


class TestNoCluster:
    def test_an_address_where_nothing_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(
            DistilscopeError, match=rf"there is no Ray cluster at 127.0.0.1:{port} \(.*refused\); give the address"
        ):
            ray_cluster._require_answer(f"127.0.0.1:{port}")
        assert time.monotonic() - start < 5

    def test_an_address_where_something_else_listens(self, monkeypatch):
        monkeypatch.setattr(ray_cluster, "ANSWER_TIMEOUT", 2.0)
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=server.accept, daemon=True).start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(DistilscopeError, match=f"there is no Ray cluster at {address} that takes this machine"):
                ray_cluster._require_answer(address)

    @pytest.mark.parametrize("address", ["here", "ray://127.0.0.1:10001", "127.0.0.1:", ":6379", "127.0.0.1:6379x"])
    def test_what_is_no_address(self, address):
        with pytest.raises(DistilscopeError, match="must be HOST:PORT") as caught:
            ray_cluster._require_answer(address)
        assert caught.value.exit_code == 2

    def test_without_ray_the_extra_is_named(self, monkeypatch):
        monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(
            DistilscopeError, match=r"needs Ray, which is not installed here; run pip install 'distilscope\[ray\]'"
        ):
            ray_cluster.require_ray()


@pytest.mark.slow
def test_sigterm_ends_a_cluster_of_our_own_with_143_and_leaves_nothing(store, tmp_path):
    """In a process of its own: the cluster, its token and its files go, and Ray has said nothing."""
    environment = os.environ | {"PYTHONPATH": SOURCES, "TMPDIR": "/tmp", "HOME": str(tmp_path)}
    before = set(Path("/tmp").glob("ray-*"))
    command = [sys.executable, work.__file__, str(store.root), "2", "0.3", "ray"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(list(store.root.glob("[!.]*/*/manifest.json"))) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert process.returncode == 143
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith("finished and kept")
    assert set(Path("/tmp").glob("ray-*")) <= before
    assert not (tmp_path / ".ray").exists()
    assert not (store.root / ".partial").exists()
    with store.lock():  # no worker is left that holds a claim
        assert not list((store.root / ".claims").iterdir())
