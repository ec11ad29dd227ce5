"""Starts the processes of one training on this machine, by torchrun, and waits: all finish, or all are ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from distilscope import errors
from distilscope.errors import DistilscopeError
from distilscope.lm.device import require_devices
from distilscope.system.signals import stop_requested

PATIENCE = 20.0
"""Seconds that processes may take to end once they are asked to: for a step, and a checkpoint."""

REFUSAL = "refusal.json"


def launch(program: str, request: Mapping[str, Any], *, processes: int, scratch: Path) -> None:
    """Runs `python -m program FILE` in so many processes and waits for them; FILE, in the folder `scratch`, holds the
    request.

    Raises what the first of them to fail has said (`refused`), or DistilscopeError where one has died. SIGTERM is
    passed on to them and waits until they have ended. Their standard input is a pipe that only this process holds open,
    so that they can tell when it dies (`end_with_parent`).
    """
    require_devices(processes)
    file, refusal, log = scratch / "request.json", scratch / REFUSAL, scratch / "processes.log"
    refusal.unlink(missing_ok=True)
    file.write_text(json.dumps(request), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        program,
        str(file),
    ]
    with stop_requested() as stopping, open(log, "wb") as output:
        torchrun = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=_environment())
        try:
            while not stopping():
                with suppress(subprocess.TimeoutExpired):
                    torchrun.wait(0.25)
                    break
        finally:
            _end(torchrun)
    if torchrun.returncode:
        raise _failure(torchrun.returncode, log, refusal, processes)


def end_with_parent() -> None:
    """Lets this process, which `launch` has started, die as soon as its launcher has, however that ended."""

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written: this returns when the last who could is gone
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def refused(error: Exception, scratch: Path) -> None:
    """Leaves what went wrong in this process for its launcher, unless another one has failed before: the others then
    only lost touch."""
    with suppress(FileExistsError), open(scratch / REFUSAL, "x", encoding="utf-8") as file:
        json.dump({"error": type(error).__name__, "message": str(error)}, file)


def _environment() -> dict[str, str]:
    """This process's environment, with its own import paths instead of the current folder, and network traffic on the
    loopback device only."""
    loopback = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return loopback | os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


def _end(torchrun: subprocess.Popen[bytes]) -> None:
    """torchrun passes SIGTERM on; what does not end by that ends when its standard input closes."""
    if torchrun.poll() is None:
        torchrun.terminate()
        with suppress(subprocess.TimeoutExpired):
            torchrun.wait(PATIENCE)
    torchrun.kill()
    torchrun.wait()
    assert torchrun.stdin is not None
    torchrun.stdin.close()


def _failure(code: int, log: Path, refusal: Path, processes: int) -> Exception:
    said = log.read_text(encoding="utf-8", errors="replace")
    # as torchrun tells it, process by process
    codes = [
        (int(rank), int(code))
        for rank, code in re.findall(r"rank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+)", said)
    ]
    killed = [(rank, signal.Signals(-code)) for rank, code in codes if code < 0]
    killed.sort(key=lambda one: one[1] == signal.SIGTERM)  # by which torchrun ends the others
    if not killed and refusal.exists():
        record = json.loads(refusal.read_text(encoding="utf-8"))
        known = getattr(errors, record["error"], None)
        if isinstance(known, type) and issubclass(known, DistilscopeError):
            return known(record["message"])
        return RuntimeError(f"{record['error']} in one of {processes} processes: {record['message']}")
    how = (
        f"number {killed[0][0]} of {processes}, killed by {killed[0][1].name}"
        if killed
        else f"torchrun ended with exit status {code}"
    )
    cause = (
        "likely out of memory: use fewer workers or smaller sizes and "
        if killed and killed[0][1] == signal.SIGKILL
        else ""
    )
    return DistilscopeError(
        f"a process that shared in a training died ({how}); {cause}run again, and the training goes on from its last "
        "checkpoint. "
        f"What it printed is in {log}"
    )
