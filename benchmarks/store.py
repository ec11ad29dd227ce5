"""A store with a million sequences in it: time and peak memory of listing, verifying and resuming it, and how fast it
is hashed.

python -m benchmarks.store [--sequences 1000000] [--folder DIR] [--write docs/performance.md]

D's tiles hold random ids, 64 tokens a sequence; p* and the prompts are real, so that the tiles that are resumed are
really drawn; what else the study would have is a small file each. Every time is of a fresh process and of files that
are not in memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.command import DISTILSCOPE

HORIZON, TILE, RESUMED = 64, 512, 8
SETTINGS = [
    "tiny",
    "--seeds",
    "1",
    "--temperatures",
    "1.0",
    "--horizon",
    str(HORIZON),
    "--tile",
    str(TILE),
    "--num-distill",
    str(TILE),
]
COLUMNS = ("work", "seconds", "peak memory of the largest process", "MB/s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the store is made, and stays (default: a temporary folder)")
    parser.add_argument(
        "--write", type=Path, help="a Markdown file whose part between two marks is replaced by the table"
    )
    parser.add_argument("--part", choices=["make", "hash", "resume"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        {"make": make, "hash": hash_all, "resume": resume}[options.part](options.folder, options.sequences)
        return
    with tempfile.TemporaryDirectory(prefix="distilscope-") as place:
        title, rows = measure(options.folder or Path(place), options.sequences)
    page.show(title, [(COLUMNS, rows)])
    if options.write:
        page.write(options.write, "python -m benchmarks.store", title, [(COLUMNS, rows)])


def measure(folder: Path, sequences: int) -> tuple[str, list[tuple[str, ...]]]:
    """What was measured of which store."""
    again = [sys.executable, "-m", "benchmarks.store", "--folder", str(folder), "--sequences", str(sequences), "--part"]
    if not (folder / "results.json").exists():
        timed([*again, "make"])
    files = [path for path in (folder / "store").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    title = (
        f"{sequences:,} sequences of {HORIZON} tokens: {len(files):,} files, {size / 1e6:,.0f} MB. {page.machine()}."
    )
    rows: list[tuple[str, ...]] = []
    study = [*SETTINGS, "--num-train", str(sequences), "--output-dir", str(folder)]
    cases = {
        "list (distilscope plan)": [sys.executable, *DISTILSCOPE, "plan", *study],
        "verify (distilscope verify)": [sys.executable, *DISTILSCOPE, "verify", str(folder)],
        f"resume ({RESUMED} tiles drawn again by two workers)": [*again, "resume"],
        "sha256sum": ["sh", "-c", f"find {folder}/store -type f -print0 | xargs -0 sha256sum"],
        "cat": ["sh", "-c", f"find {folder}/store -type f -print0 | xargs -0 cat"],
    }
    for name, command in cases.items():
        forget(files)
        seconds, peak = timed(command)
        rate = f"{size / 1e6 / seconds:,.0f}" if command[0] == "sh" else ""
        rows.append((name, f"{seconds:.1f}", f"{peak / 1e6:,.0f} MB", rate))
    forget(files)
    done = subprocess.run([*again, "hash"], capture_output=True, text=True, check=True)
    seconds = float(done.stdout)
    rows.append(("the hashing of verify alone", f"{seconds:.1f}", "", f"{size / 1e6 / seconds:,.0f}"))
    return title, rows


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds, and the bytes that the largest process of the command held at most."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed ({status})")
    return time.perf_counter() - start, usage.ru_maxrss * 1024.0


def forget(files: list[Path]) -> None:
    """Asks the system to drop these files from its memory."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def planned(folder: Path, sequences: int) -> tuple[Any, Any]:
    """The study's plan, and its store."""
    from distilscope.pipeline.store import Store
    from distilscope.studies.inputs import Sources
    from distilscope.studies.overrides import override
    from distilscope.studies.planner import plan
    from distilscope.studies.recipes.tiny import tiny

    names = [word for word in SETTINGS[1:] if word.startswith("--")]
    given = {name.removeprefix("--"): SETTINGS[SETTINGS.index(name) + 1] for name in names}
    config = override(tiny(), given | {"num-train": str(sequences)})
    return plan(config, Sources.locate(config)), Store(folder / "store")


def make(folder: Path, sequences: int) -> None:
    import numpy as np
    import yaml

    from distilscope.lm.sequences import Sequences
    from distilscope.pipeline.execute import execute
    from distilscope.pipeline.progress import SilentWatcher
    from distilscope.studies.overrides import as_settings
    from distilscope.studies.run import as_json
    from distilscope.studies.steps.registry import functions
    from distilscope.system.atomic_file import write_atomic

    study, store = planned(folder, sequences)
    execute([study.ground_truth, study.prompts], store, work=functions(), workers=1, watch=SilentWatcher())
    random = np.random.default_rng(0)
    with store.lock():
        for step in study.targets:
            if store.has(step):
                continue
            with store.writing(step, {"tokens": step.tokens}) as output:
                if step.kind != "draws":
                    (output / "nothing").write_text("no part of what is measured\n")
                    continue
                draws = step.config["draws"]
                tokens = draws * HORIZON
                Sequences(
                    random.integers(1, 257, tokens, dtype=np.uint16),
                    np.full(draws, HORIZON, dtype=np.int32),
                    np.zeros(draws, dtype=bool),
                    ((85,),),
                    257,
                    random.standard_normal(tokens, dtype=np.float32),
                ).save(output / "sequences.safetensors")
    write_atomic(folder / "config.yaml", yaml.safe_dump(as_settings(study.config), sort_keys=False))
    write_atomic(folder / "results.json", as_json({"schema_version": 1, "sources": study.sources}))


def hash_all(folder: Path, sequences: int) -> None:
    study, store = planned(folder, sequences)
    start = time.perf_counter()
    assert store.verify(study.targets) == []
    print(time.perf_counter() - start)


def resume(folder: Path, sequences: int) -> None:
    from distilscope.pipeline.execute import execute
    from distilscope.pipeline.progress import SilentWatcher
    from distilscope.studies.steps.registry import functions

    study, store = planned(folder, sequences)
    lost = [step for step in study.targets if step.kind == "draws"][:RESUMED]
    for step in lost:
        store.remove(step)
    records = execute(study.targets, store, work=functions(), workers=2, watch=SilentWatcher())
    assert len(records) == len(lost)


if __name__ == "__main__":
    main()
