"""Runs each case in fresh processes, cases of a group in turn, and prints medians, ratios, shares of the floor and peak
memory.

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
from typing import TYPE_CHECKING

from benchmarks import page
from distilscope.pipeline.engine import MEMORY

if TYPE_CHECKING:
    from benchmarks.machine import Stage
    from benchmarks.models import Case

COLUMNS = ("work", "useful tokens/s", "this package is faster by", "of the floor", "peak memory")
STAGES = ("stage", "MFLOP per token", "kB per token", "tokens/s by counting", "tokens/s of its matrix products alone")

AT_LEAST = 2.0
"""Seconds that a piece of work is timed for, over and over where it takes less."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes per case; the median is shown")
    parser.add_argument("--only", default="", help="only the cases whose name holds this")
    parser.add_argument(
        "--write", type=Path, help="a Markdown file, in which the tables replace those of such a processor"
    )
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(_machine() if options.case == "machine" else _time(options.case)))
        return
    if options.runs < 1:
        parser.error(f"--runs is {options.runs}, but a median needs at least 1")
    groups = _named(options.only)
    if not groups:
        parser.error(f"no case's name holds {options.only!r}; give a part of one, such as draw")
    if options.write and options.only:
        parser.error("--write replaces a processor's whole tables, so it takes no --only; leave one of them out")
    before = _measure("machine")
    lines, floors = _in_turn(groups, options.runs)
    # a peak is what could be: others may have slowed the machine down at one of the two times
    machine = {what: max(before[what], after) for what, after in _measure("machine").items()}
    stages = [_stage(group, stage, floor, machine) for group, stage, floor in floors]
    title = (
        f"Median of {options.runs} processes, cases of a group in turn. {page.machine()}. Large matrix products: "
        f"{machine['bfloat16'] / 1e9:,.0f} GFLOP/s in bfloat16, {machine['float32'] / 1e9:,.0f} in float32; "
        f"memory is read at {machine['bandwidth'] / 1e9:,.0f} GB/s."
    )
    tables = [(COLUMNS, lines), (STAGES, stages)] if stages else [(COLUMNS, lines)]
    page.show(title, tables)
    if options.write:
        page.write_beside_other_processors(options.write, "python -m benchmarks", title, tables)


def _named(only: str) -> dict[str, list[str]]:
    """The cases whose name holds this, by group."""
    from benchmarks.cases import CASES

    groups: dict[str, list[str]] = {}
    for name in CASES:
        if only in name:
            groups.setdefault(name.split(":")[0], []).append(name)
    return groups


def _in_turn(groups: dict[str, list[str]], runs: int) -> tuple[list[tuple[str, ...]], list[tuple[str, Stage, float]]]:
    """The rows of the first table, and each group's stage with its floor (tokens/s)."""
    from benchmarks.cases import CASES

    lines: list[tuple[str, ...]] = []
    stages: list[tuple[str, Stage, float]] = []
    for group, names in groups.items():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(runs):
            for name in names:
                print(name, file=sys.stderr)
                found[name].append(_measure(name, CASES[name]))
        ours = [run["rate"] for run in found[names[0]]]
        floors: dict[tuple[int, int | None], list[float]] = {}
        for name, times in found.items():
            floors.setdefault(_width(CASES[name]), []).extend(run["floor"] for run in times)
        for name, times in found.items():
            ratio = statistics.median(mine / run["rate"] for mine, run in zip(ours, times, strict=True))
            peak, rate = (statistics.median(run[key] for run in times) for key in ("peak", "rate"))
            floor = statistics.median(floors[_width(CASES[name])])
            share = rate / floor if floor else None
            faster, of_floor = "" if name == names[0] else f"{ratio:.1f} x", f"{share:.0%}" if share else ""
            lines.append((name, f"{rate:,.0f}", faster, of_floor, f"{peak / 1e6:,.0f} MB"))
        if stage := CASES[names[0]].stage:
            stages.append((group, stage(), statistics.median(floors[_width(CASES[names[0]])])))
    return lines, stages


def _stage(group: str, stage: Stage, floor: float, machine: dict[str, float]) -> tuple[str, ...]:
    """A row of the second table."""
    roof = stage.roof(machine[str(stage.dtype).removeprefix("torch.")], machine["bandwidth"])
    return group, *(
        f"{number:,.0f}" for number in (stage.flops_per_token / 1e6, stage.bytes_per_token / 1e3, roof, floor)
    )


def _width(case: Case) -> tuple[int, int | None]:
    """Cases of a group with the same have the same floor."""
    return case.processes, case.threads


def _measure(name: str, case: Case | None = None) -> dict[str, float]:
    """One run of a case in its own process, so that its peak memory is its own; or in several at once, whose figures
    are added."""
    processes = case.processes if case else 1
    threads = 1 if processes > 1 else case and case.threads
    settings = MEMORY if case and case.as_worker else {}
    environment = settings | os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, "-m", "benchmarks", "--case", name]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(processes)]
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return {what: sum(one[what] for one in found) for what in found[0]}


def _machine() -> dict[str, float]:
    import torch

    from benchmarks.machine import bandwidth, peak

    return {"bfloat16": peak(torch.bfloat16), "float32": peak(torch.float32), "bandwidth": bandwidth()}


def _time(name: str) -> dict[str, float]:
    from benchmarks.cases import CASES

    case = CASES[name]
    floors = case.stage().floors() if case.stage else []
    _give_back()
    timed = case.prepare()
    _give_back()  # what preparing took is no part of the work
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is that of the work
    if case.warms_up:  # or its memory would be new in the process, and code for each number of rows unprepared
        timed()
    start, tokens, seconds = time.perf_counter(), 0, 0.0
    while seconds < AT_LEAST:
        tokens += timed()
        seconds = time.perf_counter() - start
    peak = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    # a mean over seconds beside what the same minute allowed, on a machine whose best differs from minute to minute
    floors += case.stage().floors() if case.stage else []
    return {"rate": tokens / seconds, "peak": peak * 1024.0, "floor": statistics.median(floors) if floors else 0.0}


def _give_back() -> None:
    """Memory that nothing holds but that the allocator kept, to the kernel."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
