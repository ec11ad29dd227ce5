"""Work that worker processes import: small functions that sleep, write, fail or die, and a plan made of them."""

# ruff: noqa: ARG001  (every function takes the four arguments of the convention, used or not)
from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from distilscope.errors import GateError, StoppedError
from distilscope.pipeline.step import Step
from distilscope.system.signals import stop_requested

WORK = {
    "data": "work:write",
    "teacher": "work:write",
    "draws": "work:write",
    "student": "work:write",
    "score": "work:write",
    "gate": "work:gate",
    "bug": "work:bug",
    "odd": "work:odd",
    "exit": "work:leave",
    "kill": "work:killed",
    "big": "work:out_of_memory",
    "sleep": "work:sleep",
    "environment": "work:environment",
    "interval": "work:interval",
    "noise": "work:noise",
    "child": "work:child",
    "resume": "work:resume",
    "told": "work:told",
    "terminated": "work:terminated",
    "lost": "work:no_such_function",
    "spill": "work:spill",
    "stubborn": "work:stubborn",
}


def plan(sleep: float = 0.0) -> list[Step]:
    """Thirteen steps: data, 2 teachers, 4 draws, 2 students that read 2 draws each, 4 scores. Returns the scores."""

    def step(kind: str, name: object, inputs: dict[str, Step], stage: str) -> Step:
        return Step(kind, {"name": name, "sleep": sleep}, inputs, 1, stage=stage, cost=2.0, tokens=10)

    data = step("data", "d", {}, "draw data")
    teachers = [step("teacher", i, {"data": data}, "fit teachers") for i in range(2)]
    draws = [[step("draws", [i, j], {"teacher": teachers[i]}, "draw D'") for j in range(2)] for i in range(2)]
    students = [step("student", i, {f"draws/{j}": draws[i][j] for j in range(2)}, "train students") for i in range(2)]
    return [step("score", [i, j], {"student": students[i], "data": data}, "score") for i in range(2) for j in range(2)]


def lone(kind: str, **config: object) -> Step:
    return Step(kind, config, {}, 1, stage=f"the {kind}")


def write(config, inputs, output, scratch):
    """Two files that depend on the configuration and on the bytes of every input; notes that it ran in $RUN_LOG."""
    if log := os.environ.get("RUN_LOG"):
        with open(log, "a") as file:
            file.write(f"{output.name.rsplit('-', 1)[0]}\n")
    (output / "half.txt").write_text(str(config["name"]))
    time.sleep(config["sleep"])
    parts = [f"{name}={(folder / 'deep' / 'result.txt').read_text()}" for name, folder in sorted(inputs.items())]
    (output / "deep").mkdir()
    (output / "deep" / "result.txt").write_text(hashlib.sha256(f"{config['name']}{parts}".encode()).hexdigest())
    return {"parts": len(parts)}


def gate(config, inputs, output, scratch):
    raise GateError("z = 7.1, but |z| must stay below 4; check the temperature")


def bug(config, inputs, output, scratch):
    raise KeyError("weights")


class OddError(GateError):
    """Cannot be rebuilt from its message alone."""

    def __init__(self, value, rule):
        super().__init__(f"{value} breaks {rule}")


def odd(config, inputs, output, scratch):
    raise OddError(3, "the rule")


def leave(config, inputs, output, scratch):
    os._exit(3)


def killed(config, inputs, output, scratch):
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(config, inputs, output, scratch):
    raise MemoryError


def sleep(config, inputs, output, scratch):
    time.sleep(config["seconds"])
    (output / "x").write_text("x")
    return {}


def environment(config, inputs, output, scratch):
    (output / "seen.txt").write_text(
        f"{os.environ['OMP_NUM_THREADS']} {os.environ['MKL_NUM_THREADS']} {'torch' in sys.modules}"
    )
    return {"threads": int(os.environ["OMP_NUM_THREADS"])}


def interval(config, inputs, output, scratch):
    began = time.time()
    time.sleep(0.1)
    (output / "interval").write_text(f"{began} {time.time()} {os.environ['OMP_NUM_THREADS']}")
    return {}


def noise(config, inputs, output, scratch):
    print("a library talks")
    return {}


def spill(config, inputs, output, scratch):
    """As a careless library does: prints the environment, and fails with it in its message."""
    print(dict(os.environ))
    raise RuntimeError(f"refused, with the header Authorization: {os.environ}")


def stubborn(config, inputs, output, scratch):
    """Does not end when it is told to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (scratch / "begun").touch()
    time.sleep(600)


def child(config, inputs, output, scratch):
    """Starts a process of its own, notes its id, and never ends."""
    process = subprocess.Popen(["sleep", "600"])
    Path(config["note"]).write_text(f"{os.getpid()} {process.pid}")
    threading.Event().wait()


def resume(config, inputs, output, scratch):
    """Dies in its first life; the second finds what the first has left."""
    if not (scratch / "checkpoint").exists():
        (scratch / "checkpoint").write_text("half way")
        os.kill(os.getpid(), signal.SIGKILL)
    (output / "weights").write_text((scratch / "checkpoint").read_text())
    return {}


def told(config, inputs, output, scratch):
    """Is told to end in its first life, and stops with what it needs for the second."""
    with stop_requested() as stopping:
        if not (scratch / "first").exists():
            (scratch / "first").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            if stopping():
                raise StoppedError("told to end")
    (output / "lives").write_text("2")
    return {}


def terminated(config, inputs, output, scratch):
    """Does not listen when it is told to end in its first life."""
    if not (scratch / "first").exists():
        (scratch / "first").touch()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    (output / "lives").write_text("2")
    return {}


def tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file that belongs to an artifact."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob("[!.]*/**/*"))
        if path.is_file()
    }


def main(root: str, workers: str, sleep_each: str, engine: str = "local") -> None:
    from distilscope.pipeline.execute import execute
    from distilscope.pipeline.progress import ProgressLines
    from distilscope.pipeline.ray.engine import RayEngine
    from distilscope.pipeline.store import Store

    store = Store(root)
    tasks = RayEngine(store, cores=int(workers)) if engine == "ray" else None
    execute(
        plan(float(sleep_each)), store, work=WORK, workers=int(workers), watch=ProgressLines(sys.stderr), engine=tasks
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
