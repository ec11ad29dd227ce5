"""A command as a whole: how long it takes, and the most memory that it and every process it started hold together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DISTILSCOPE = ("-c", "from distilscope.cli.main import main; main()")
"""What the `distilscope` command runs, as arguments of Python."""

EVERY = 0.2
"""Seconds between looks at the memory."""


@dataclass(frozen=True)
class Timing:
    seconds: float
    peak: float
    """Bytes: resident set sizes added up, so that what processes share counts once for each."""


def timed(arguments: Sequence[str], folder: Path, **settings: str) -> Timing:
    """Runs Python with these arguments in a folder, with these environment variables. Raises RuntimeError if it
    fails."""
    start, peak = time.perf_counter(), 0
    with (folder / "said.txt").open("w") as said:
        command = [sys.executable, *arguments]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=said, env=os.environ | settings
        ) as process:
            while process.poll() is None:
                peak = max(peak, sum(map(_resident, _family(process.pid))))
                time.sleep(EVERY)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {process.returncode}: {(folder / 'said.txt').read_text()[-2000:]}"
        )
    print(f"{seconds:.1f} s, {peak / 1e6:,.0f} MB: {' '.join(arguments)}", file=sys.stderr)
    return Timing(seconds, float(peak))


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [one for child in thread.read_text().split() for one in _family(int(child))]
        except OSError:  # it has ended meanwhile
            continue
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0
