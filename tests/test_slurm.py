"""The job file for a Slurm cluster, as far as it can be known without one: stand-ins for the commands in it note their
words."""

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

JOB = Path(__file__).parents[1] / "docs" / "slurm" / "distilscope.sbatch"

OPTIONS = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+",
    "ntasks-per-node": r"1",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"\d+",
    "mem": r"\d+[KMGT]?",
    "exclusive": None,
    "time": r"(\d+-)?\d+:\d\d:\d\d",
    "signal": r"B:TERM@\d+",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"[\w%.-]+",
}
"""Of sbatch, by its manual, as far as the file may use them."""

STANDINS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node0\\nnode1\\nnode2\\n"; fi',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    "hostname": "echo 127.0.0.1 ::1",
    "ray": 'case "$*" in *--head*) exec python3 -m http.server --bind 127.0.0.1 "$PORT" ;; *) exec sleep 600 ;; esac',
    "distilscope": 'echo "$DISTILSCOPE_STORE" > store\n'
    'if [ "$CODE" = wait ]; then trap "exit 143" TERM; touch ready; sleep 600 & wait; fi\nexit "$CODE"',
}


@pytest.fixture
def cluster(tmp_path):
    """Starts the job among the stand-ins; whatever it has started ends with the test, as Slurm would see to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in STANDINS.items():
        said = f'echo "{name} $*" >> "$LOG"'
        (folder / name).write_text(f"#!/bin/sh\n{said}\n{does}\n")
        (folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jobs: list[subprocess.Popen[str]] = []

    def start(code: str, **changes: str | None) -> subprocess.Popen[str]:
        names = {
            "SLURM_JOB_ID": str((port - 20000) % 10000),
            "SLURM_JOB_NODELIST": "node[0-2]",
            "SLURM_JOB_NUM_NODES": "3",
        }
        names |= {"SLURM_CPUS_PER_TASK": "4", "SLURM_GPUS_ON_NODE": "2", "DISTILSCOPE_STORE": "/shared/store"}
        names |= {"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"), "CODE": code}
        names["PORT"] = str(20000 + int(names["SLURM_JOB_ID"]))
        environment = {name: value for name, value in (os.environ | names | changes).items() if value is not None}
        job = subprocess.Popen(
            ["bash", JOB, "tiny", "--seeds", "2"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(job.pid, signal.SIGKILL)


def said(tmp_path: Path, name: str) -> list[str]:
    return [
        line.removeprefix(f"{name} ")
        for line in (tmp_path / "log").read_text().splitlines()
        if line.startswith(f"{name} ")
    ]


def test_it_is_bash_and_asks_for_what_sbatch_knows():
    assert subprocess.run(["bash", "-n", JOB], capture_output=True, check=False).returncode == 0
    lines = [line for line in JOB.read_text().splitlines() if line.startswith("#SBATCH")]
    assert len(lines) > 5
    for line in lines:
        option = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
        assert option, line
        name, value = option.groups()
        assert name in OPTIONS, line
        assert (value is None) == (OPTIONS[name] is None), line
        assert value is None or re.fullmatch(OPTIONS[name], value), line


@pytest.mark.parametrize("code", ["0", "1"])
def test_head_workers_and_run_find_each_other_and_the_runs_code_is_the_jobs(cluster, tmp_path, code):
    job = cluster(code)
    assert job.wait(60) == int(code), job.stderr.read()
    head, workers = said(tmp_path, "ray")
    port = re.search(r"--port=(\d+)", head).group(1)
    assert "--head --node-ip-address=127.0.0.1" in head
    assert f"start --address=127.0.0.1:{port} --num-cpus=4 --num-gpus=2 --block" in workers
    assert said(tmp_path, "distilscope") == [f"run tiny --seeds 2 --engine ray --ray-address 127.0.0.1:{port}"]
    assert (tmp_path / "store").read_text() == "/shared/store\n"
    placed = said(tmp_path, "srun")
    assert "--nodes=1 --ntasks=1 --nodelist=node0 ray start --head" in placed[1]
    assert "--nodes=2 --ntasks=2 --exclude=node0 ray start --address" in placed[2]
    assert not any("requeue" in line for line in said(tmp_path, "scontrol"))


def test_sigterm_ends_the_run_and_puts_the_job_back_into_the_queue(cluster, tmp_path):
    job = cluster("wait")
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.terminate()
    assert job.wait(60) == 143
    assert said(tmp_path, "scontrol")[-1].startswith("requeue ")


def test_one_node_needs_no_workers_and_a_store_must_be_given(cluster, tmp_path):
    assert cluster("0", SLURM_JOB_NUM_NODES="1").wait(60) == 0
    assert len(said(tmp_path, "ray")) == 1
    job = cluster("0", DISTILSCOPE_STORE=None)
    assert job.wait(60) != 0
    assert "DISTILSCOPE_STORE: give the folder of the store" in job.stderr.read()
