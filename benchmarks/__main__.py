"""Runs each case in fresh processes, pairs in turn, and prints medians, ratios and peak memory.

python -m benchmarks [--runs 3] [--only draw] [--write docs/performance.md]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from distilscope.runs.engine import MEMORY

COLUMNS = ("work", "useful tokens/s", "this package is faster by", "of the floor", "peak memory")
MARKS = ("<!-- written by python -m benchmarks -->", "<!-- up to here -->")
TOGETHER = ", two side by side on one thread each"
"""How `distilscope run` trains: the rate and the memory are those of both."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes per case; the median is shown")
    parser.add_argument("--only", default="", help="only the cases whose name holds this")
    parser.add_argument("--write", type=Path, help="a Markdown file whose part between the two marks is replaced by the table")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(_time(options.case)))
        return
    from benchmarks.cases import CASES

    groups: dict[str, list[str]] = {}
    for name in CASES:
        if options.only in name:
            group = groups.setdefault(name.split(":")[0], [])
            if name.startswith("train") and not group:
                group.append(name + TOGETHER)
            group.append(name)
    title = f"Median of {options.runs} processes, cases of a group in turn. {_machine()}"
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "work" else "right")
    lines: list[tuple[str, ...]] = []
    for names in groups.values():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(options.runs):
            for name in names:
                print(name, file=sys.stderr)
                found[name].append(_measure(name))
        ours = [run["rate"] for run in found[names[0]]]
        for name, runs in found.items():
            ratio = statistics.median(mine / run["rate"] for mine, run in zip(ours, runs, strict=True))
            peak, rate, share = (statistics.median(run[key] for run in runs) for key in ("peak", "rate", "share"))
            faster, of_floor = "" if name == names[0] else f"{ratio:.1f} x", f"{share:.0%}" if share else ""
            lines.append((name, f"{rate:,.0f}", faster, of_floor, f"{peak / 1e6:,.0f} MB"))
            table.add_row(*lines[-1])
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if options.write:
        _write(options.write, title, lines)


def _write(path: Path, title: str, lines: list[tuple[str, ...]]) -> None:
    """Replaces what stands between the marks."""
    before, rest = path.read_text().split(MARKS[0])
    rows = ["| " + " | ".join(line) + " |" for line in (COLUMNS, *lines)]
    rows.insert(1, "|---|" + "---:|" * (len(COLUMNS) - 1))
    path.write_text("\n".join([before + MARKS[0], title, "", *rows, MARKS[1] + rest.split(MARKS[1])[1]]))


def _machine() -> str:
    """Processor, cores and versions."""
    from importlib.metadata import version

    about = dict(line.split("\t: ", 1) for line in Path("/proc/cpuinfo").read_text().replace("\t\t", "\t").splitlines() if "\t: " in line)
    processor = f"{about.get('model name', 'unknown processor')} (family {about.get('cpu family', '?')}), {os.cpu_count()} cores"
    return f"{processor}; " + ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))


def _measure(name: str) -> dict[str, float]:
    """One run of a case in its own process, so that its peak memory is its own; or of two at once, as `distilscope run` works."""
    case = name.removesuffix(TOGETHER)
    number, environment = (2, MEMORY | os.environ | {"OMP_NUM_THREADS": "1"}) if name.endswith(TOGETHER) else (1, os.environ)
    command = [sys.executable, "-m", "benchmarks", "--case", case]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(number)]
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return {what: sum(one[what] for one in found) for what in found[0]}


def _time(name: str) -> dict[str, float]:
    from benchmarks.cases import CASES, floor

    timed = CASES[name]()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what preparing took and the allocator kept is no part of the timed work
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is that of the timed part
    start = time.perf_counter()
    tokens = timed()
    seconds = time.perf_counter() - start
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    share = 0.0 if not name.startswith(("draw", "score")) else tokens / seconds / floor()
    return {"rate": tokens / seconds, "peak": peak * 1024.0, "share": share}


if __name__ == "__main__":
    main()
