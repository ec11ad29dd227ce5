"""Connections to a Ray cluster: one that is started here, or one that exists already."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from distilscope.errors import DistilscopeError, UsageError
from distilscope.pipeline.task import import_function
from distilscope.system.redaction import without_secrets
from distilscope.system.signals import defer_exit

ANSWER_TIMEOUT = 20.0
"""Seconds in which a cluster must answer, including the start of a Python process that imports Ray."""

CONNECT_TIMEOUT = 5.0
"""Seconds in which the cluster's machine must accept a connection."""

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "3",  # a task for which no node has the memory would be tried for ever
}
"""Ray's settings, as environment variables that it reads while it starts."""

OBJECT_STORE_BYTES = 80 << 20
"""Size of Ray's object store, about the least it accepts: tasks and receipts are small, all else is in our store."""

_PING = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"


def require_ray() -> None:
    """Raise DistilscopeError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise DistilscopeError(
            "the engine 'ray' needs Ray, which is not installed here; run pip install 'distilscope[ray]'"
        )


@dataclass(frozen=True)
class Cluster:
    """A connection to a cluster."""

    end: Callable[[], None]
    environment: Mapping[str, str]
    """Environment variables that its worker processes are known to have."""


def connect(address: str | None, *, cores: int, environment: Mapping[str, str]) -> Cluster:
    """Connect Ray to the cluster at the address (HOST:PORT, or "auto"); without one, start a cluster of `cores` here.

    A new cluster requires a token (that of the environment, or a fresh one), has no dashboard, keeps its files in a
    temporary folder, and its processes start with `environment` on top of ours. A program that is already connected
    keeps its connection. Raises DistilscopeError, within seconds, if there is no such cluster.
    """
    with _environment(SETTINGS | _credentials(joining=address is not None)):
        import ray

        if ray.is_initialized():
            return Cluster(lambda: None, {})
        if address is not None:
            _require_answer(address)
            _init(address=address)
            return Cluster(ray.shutdown, {})
        # Ray makes sockets below it, and the path of a socket has at most 107 characters.
        folder = tempfile.mkdtemp(
            prefix="ray-", dir=tempfile.gettempdir() if len(tempfile.gettempdir()) < 25 else "/tmp"
        )

        def end() -> None:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)

        try:
            # Workers import from where we do. Secrets of this process are hidden from them, except Ray's own token.
            hidden = {
                name for name in os.environ.keys() - without_secrets(os.environ).keys() if not name.startswith("RAY_")
            }
            changes = {**environment, "PYTHONPATH": os.pathsep.join(sys.path)} | dict.fromkeys(hidden)
            with _environment(changes):
                _init(
                    address="local",
                    num_cpus=cores,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=folder,
                )
                if os.environ.get("RAY_AUTH_MODE") != "token":
                    raise DistilscopeError(
                        "Ray's new cluster asks nobody for a token; run pip install 'distilscope[ray]' for a newer Ray"
                    )
        except BaseException:
            end()
            raise
        return Cluster(end, environment)


def ask_nodes(address: str, question: str, gpus: Sequence[int]) -> list[list[Any]]:
    """Call the function `module:name` on nodes of a cluster: for each number of GPUs, on every node that has so many.

    The list is empty where no node has them; the engine refuses such a study at its first step.
    """
    with defer_exit():  # as in the engine: inside Ray, the exit of a signal gets another code
        cluster = connect(address, cores=1, environment={})
    try:
        with defer_exit():
            asked = [_asked_everywhere(question, number) for number in gpus]
        for answer in chain(*asked):
            while not _ready(
                answer
            ):  # a node whose GPUs are all in use answers when one is free; signals arrive between the waits
                pass
        with defer_exit():
            import ray

            return [ray.get(answers) for answers in asked]
    finally:
        with defer_exit():
            cluster.end()


def _asked_everywhere(question: str, gpus: int) -> list[Any]:
    """References to the answers of every node that has so many GPUs."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= gpus]
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    return [
        ray.remote(_answer).options(num_cpus=0, num_gpus=gpus, scheduling_strategy=place).remote(question)
        for place in places
    ]


def _answer(question: str) -> Any:
    return import_function(question)()


def _ready(answer: Any) -> bool:
    import ray

    with defer_exit():
        return bool(ray.wait([answer], timeout=0.5)[0])


def _init(**options: Any) -> None:
    """Call `ray.init`, which installs its own SIGTERM handler, and restore ours afterwards, with our exit code."""
    import ray
    from ray._private import worker

    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        # Ray prints at length about nodes that die, on standard output, which is the caller's. There is no option.
        worker._worker_logs_enabled = False
    except SystemExit:
        raise SystemExit(128 + signal.SIGTERM) from None
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise DistilscopeError(
            f"Ray could not start here ({_last_words(str(error))}); mend that, or use --engine local"
        ) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _require_answer(address: str) -> None:
    """Raise DistilscopeError unless a cluster answers at the address and accepts us. Ray would retry for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not (address == "auto" or (host and port.isdigit())):
        raise UsageError(f"--ray-address is {address!r}, but must be HOST:PORT as `ray start` names it, or auto")
    there_is_none = f"there is no Ray cluster at {address}"
    remedy = "give the address that `ray start` printed, or leave --ray-address out to start one here"
    if address != "auto":
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
        except (OSError, OverflowError) as error:
            raise DistilscopeError(f"{there_is_none} ({error}); {remedy}") from None
    with tempfile.TemporaryFile("w+", errors="replace") as told:
        command = [sys.executable, "-c", _PING, address]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=told) as knock:
            # Rounds are counted, not timed: while a job is suspended the clock runs, but nothing can answer.
            for _ in range(round(ANSWER_TIMEOUT / 0.25)):
                with suppress(subprocess.TimeoutExpired):
                    knock.wait(0.25)
                    break
            knock.kill()
        if knock.returncode == 0:
            return
        told.seek(0)
        said = told.read()
    if "InvalidAuthToken" in said or "Unauthenticated" in said:
        raise DistilscopeError(
            f"the Ray cluster at {address} asks for another token; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its own"
        )
    raise DistilscopeError(f"{there_is_none} that takes this machine ({_last_words(said)}); {remedy}")


def _last_words(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1].strip()[:200] if lines else "it did not answer"


def _credentials(*, joining: bool) -> dict[str, str | None]:
    """Changes of the environment that decide about Ray's token; None removes a variable."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    kept = given or Path("~/.ray/auth_token").expanduser().exists()
    if not joining:
        # Left to itself Ray asks for a token in a new cluster, whatever an earlier one in this process did.
        return {"RAY_AUTH_MODE": None} | ({} if kept else {"RAY_AUTH_TOKEN": _token()})
    return {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token" if kept else "disabled")}


@cache
def _token() -> str:
    """One token for the life of this process, because Ray remembers the first it sees."""
    return secrets.token_hex(32)


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    before = dict(os.environ)
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
