"""How well a calibration foretells a study: each stage's seconds of its workers, as planned before the run and as the
run took.

python -m benchmarks.prediction [--recipe RECIPE] [--folder FOLDER] [--write docs/performance.md]

In a folder that holds both already, they are compared again and nothing runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.command import DISTILSCOPE, timed

COLUMNS = ("stage", "predicted, s", "taken, s", "predicted / taken", "predicted share", "share taken")
PLAN = "plan.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction", description=__doc__)
    parser.add_argument("--recipe", default="smollm2_cpu")
    parser.add_argument(
        "--folder", type=Path, help="where plan and run are made and stay (default: one that is thrown away)"
    )
    parser.add_argument(
        "--write", type=Path, help="a Markdown file whose part between two marks is replaced by the table"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        run = folder / "runs" / options.recipe / "run.json"
        if not run.exists():
            command = [sys.executable, *DISTILSCOPE, "plan", options.recipe, "--calibrate", "--json"]
            (folder / PLAN).write_bytes(subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True).stdout)
            timed([*DISTILSCOPE, "run", options.recipe, "--json"], folder)
        rows = compared(json.loads((folder / PLAN).read_text()), json.loads(run.read_text()))
    tables = [(COLUMNS, rows)]
    page.show(page.machine(), tables)
    if options.write:
        page.write(options.write, "python -m benchmarks.prediction", page.machine() + ".", tables)


def compared(plan: Mapping[str, Any], run: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Stage by stage, all of them together, and the whole from beginning to end. Both are of the same steps (KeyError
    otherwise)."""
    predicted = {stage["stage"]: stage["seconds"] for stage in plan["stages"]}
    taken = {name: stage["worker_seconds"] for name, stage in run["stages"].items()}
    whole = (sum(predicted.values()), sum(taken.values()))
    pairs = {name: (seconds, taken[name]) for name, seconds in predicted.items()} | {"all stages": whole}
    rows = [
        _row(name, *pair, [f"{100 * part / of:.1f}%" for part, of in zip(pair, whole, strict=True)])
        for name, pair in pairs.items()
    ]
    return [*rows, _row("from beginning to end", plan["calibration"]["predicted_seconds"], run["seconds"], ["", ""])]


def _row(name: str, predicted: float, taken: float, shares: list[str]) -> tuple[str, ...]:
    return name, f"{predicted:.1f}", f"{taken:.1f}", f"{predicted / taken:.2f}" if taken else "", *shares


if __name__ == "__main__":
    main()
