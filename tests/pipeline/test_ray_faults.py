"""Faults that are really done: a worker, a node and the driver of a Ray run are killed, and nothing of the results
shows it.

Each blow falls when so many artifacts are finished, another number each time (`--soak N`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import distilscope

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SETTINGS = {
    "--seeds": "1",
    "--num-train": "192",
    "--num-eval": "32",
    "--ground-truth.num-validation": "32",
    "--num-teacher-eval": "16",
    "--horizon": "8",
    "--tile": "16",
    "--slots": "16",
    "--teacher.training.epochs": "1",
    "--student.training.epochs": "2",
    "--temperatures": "0.8",
}
DISTILSCOPE = [sys.executable, "-c", "from distilscope.cli.main import main; main()"]
RUN = [*DISTILSCOPE, "run", "tiny", *(word for setting in SETTINGS.items() for word in setting), "--json"]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(distilscope.__file__).parents[1]),
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "of-a-test",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",  # five times it takes Ray to notice that a node is gone
}
PATIENCE = 1200
"""Seconds: the machine may be busy with other things."""


@dataclass(frozen=True)
class Undisturbed:
    results: bytes
    manifests: dict[str, dict[str, str]]
    """SHA-256 of every file of every artifact, as its manifest has it."""


def manifests(folder: Path) -> dict[str, dict[str, str]]:
    """Every artifact's files as its manifest has them, which is how they are."""
    found = {}
    for path in folder.glob("store/[!.]*/*/manifest.json"):
        record = json.loads(path.read_text())
        hashes = {name: file["sha256"] for name, file in record["files"].items()}
        assert hashes == {name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in hashes}
        found[record["fingerprint"]] = hashes
    return found


def finished(folder: Path) -> int:
    return len(list(folder.glob("store/[!.]*/*/manifest.json")))


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [*RUN, "--output-dir", str(folder), *options]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    for _ in range(100 * PATIENCE):  # counted, not timed: while all of us are stopped, nobody's time runs out
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail("waited in vain")


def below(pid: int) -> list[int]:
    """Processes that this one has started, and theirs."""
    children: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += map(int, file.read_text().split())
    return [found for child in children for found in (child, *below(child))]


def named(pid: int, name: str) -> bool:
    with suppress(OSError):
        return name in Path(f"/proc/{pid}/cmdline").read_text()
    return False


def workers(raylets: list[int]) -> list[int]:
    """Ray's processes that are at a step right now."""
    return [pid for raylet in raylets for pid in below(raylet) if named(pid, "ray::perform_all")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Undisturbed:
    """A run by one local worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with start(folder, "--workers", "1") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert out == (folder / "results.json").read_bytes()
    return Undisturbed(out, manifests(folder))


class Nodes:
    """The cluster of `ray_nodes.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._told = self._line()
        self.address: str = self._told["address"]

    @property
    def raylets(self) -> list[int]:
        return [self._told["head"], self._told["other"]]

    def kill_the_other(self) -> None:
        os.kill(self._told["other"], signal.SIGKILL)

    def add_another(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("another\n")
        self._process.stdin.flush()
        self._told |= self._line()

    def _line(self) -> dict:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    script = str(Path(__file__).with_name("ray_nodes.py"))
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:  # short: sockets lie below it
        environment = ENVIRONMENT | {"RAY_TMPDIR": folder}
        command = [sys.executable, script]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        ) as process:
            yield Nodes(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def killed(pids: list[int]) -> bool:
    """Kills the first that still lives; False if none did."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def moment(chance: random.Random, undisturbed: Undisturbed) -> int:
    """How many artifacts are finished when the blow falls."""
    return chance.randrange(1, len(undisturbed.manifests) - 6)


def as_if_nothing_had_been(folder: Path, undisturbed: Undisturbed) -> None:
    assert manifests(folder) == undisturbed.manifests
    assert (folder / "results.json").read_bytes() == undisturbed.results
    assert [path.name for path in (folder / "store").glob(".*") if path.name in (".partial", ".scratch")] in (
        [],
        [".scratch"],
    )


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    for _ in range(PATIENCE):
        with suppress(subprocess.TimeoutExpired):
            out, err = process.communicate(timeout=1)
            return process.returncode, out, err.decode()
    pytest.fail("it does not end")


def test_a_killed_worker(tmp_path, nodes, undisturbed, chance):
    with start(tmp_path, "--engine", "ray", "--ray-address", nodes.address) as process:
        blow = moment(chance, undisturbed)
        until(lambda: finished(tmp_path) >= blow and killed(workers(nodes.raylets)), process)
        code, out, err = end(process)
    assert code == 0, err
    assert out == undisturbed.results
    about = json.loads((tmp_path / "run.json").read_text())
    assert (about["engine"], about["ray_address"], about["workers"]) == ("ray", nodes.address, 2)
    as_if_nothing_had_been(tmp_path, undisturbed)


def test_a_killed_node(tmp_path, nodes, undisturbed, chance):
    """With it goes one of the two GPUs that trainings ask for: they wait for the other."""
    with start(tmp_path, "--engine", "ray", "--ray-address", nodes.address, "--resources.train_gpus", "1") as process:
        blow = moment(chance, undisturbed)
        until(lambda: finished(tmp_path) >= blow, process)
        nodes.kill_the_other()
        code, out, err = end(process)
    nodes.add_another()
    assert code == 0, err
    assert out == undisturbed.results
    as_if_nothing_had_been(tmp_path, undisturbed)


def test_a_killed_driver(tmp_path, nodes, undisturbed, chance):
    """Its workers, on both nodes, end by themselves; the next run waits for them and goes on at once."""
    with start(tmp_path, "--engine", "ray", "--ray-address", nodes.address) as process:
        blow = moment(chance, undisturbed)
        until(lambda: finished(tmp_path) >= blow and workers(nodes.raylets), process)
        process.kill()
    with start(tmp_path, "--engine", "ray", "--ray-address", nodes.address) as process:
        code, out, err = end(process)
    assert code == 0, err
    assert int(re.search(r"(\d+) are done or not needed", err)[1]) >= blow
    assert out == undisturbed.results
    as_if_nothing_had_been(tmp_path, undisturbed)


def test_the_only_node_killed(tmp_path, undisturbed, chance):
    """A run on a cluster of its own says so and ends; run again, by another engine at that, it goes on from there."""
    with start(tmp_path, "--engine", "ray") as process:
        blow = (
            moment(chance, undisturbed) * 2 // 3
        )  # the last steps come too fast to be sure of striking before the end
        until(lambda: finished(tmp_path) >= blow, process)
        os.kill(next(pid for pid in below(process.pid) if named(pid, "/raylet/raylet")), signal.SIGKILL)
        code, out, err = end(process)
    assert (code, out) == (1, b"")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(
        "distilscope: the Ray node of this machine died, and with it the run, at the step "
    )
    with start(tmp_path) as process:
        code, out, err = end(process)
    assert code == 0, err
    assert out == undisturbed.results
    as_if_nothing_had_been(tmp_path, undisturbed)
