"""What the Ray engine costs over local workers: the same study by both in turn, two workers each, in fresh processes
and empty folders.

python -m benchmarks.engines [--runs 3] [--num-train 9216] [--write docs/performance.md]

The study is the tiny recipe; with 9216 sequences in D and in each of nine D', about 100 000 are drawn in all. Each time
is that of the whole command, from its start until its process has ended: a Ray cluster's start and end included. Both
must leave the same results.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import page
from benchmarks.command import DISTILSCOPE, timed

WORKERS = 2
ENGINES = ("local", "ray")
COLUMNS = ("engine", "seconds", "each")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each engine, in turn")
    parser.add_argument("--num-train", type=int, default=9216, help="sequences in D and in each D'")
    parser.add_argument(
        "--write", type=Path, help="a Markdown file whose part between two marks is replaced by the table"
    )
    options = parser.parse_args()
    ratios, seconds = [], {engine: [] for engine in ENGINES}
    for run in range(options.runs):
        results = set()
        for engine in ENGINES if run % 2 == 0 else reversed(ENGINES):  # whatever else changes with time hits both
            took, written = _timed(engine, options.num_train)
            seconds[engine].append(took)
            results.add(written)
            print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)  # other work distorts the ratio
        if len(results) > 1:
            sys.exit("the engines left different results")
        ratios.append(seconds["ray"][-1] / seconds["local"][-1])
    rows = [
        (engine, f"{statistics.median(seconds[engine]):.1f}", _listed(seconds[engine], ".1f")) for engine in ENGINES
    ]
    rows.append(("ray / local", f"{statistics.median(ratios):.3f}", _listed(ratios, ".3f")))
    title, tables = f"Medians of {options.runs}. {page.machine()}.", [(COLUMNS, rows)]
    page.show(title, tables)
    if options.write:
        page.write(options.write, "python -m benchmarks.engines", title, tables)


def _timed(engine: str, num_train: int) -> tuple[float, bytes]:
    """Seconds, and the results."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--num-train", str(num_train), "--engine", engine, "--workers", str(WORKERS), "--output-dir", "run"]
        run = timed([*DISTILSCOPE, "run", "tiny", *settings], Path(folder))
        return run.seconds, (Path(folder) / "run" / "results.json").read_bytes()


def _listed(values: list[float], form: str) -> str:
    return ", ".join(format(value, form) for value in values)


if __name__ == "__main__":
    main()
