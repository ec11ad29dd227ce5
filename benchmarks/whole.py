"""Whole commands, from an empty store: seconds, and the most memory that all their processes hold together.

python -m benchmarks.whole [--write docs/performance.md]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import page
from benchmarks.command import DISTILSCOPE, timed

COLUMNS = ("command", "seconds", "peak memory of all processes")
BETAS = ("1", "1.5", "2", "3", "5", "7", "10", "20", "50", "100")
IMPORT = "import distilscope.mixtures.config, distilscope.mixtures.simulation, torch"
"""What `mog` loads, so that its own time can be told from it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole", description=__doc__)
    parser.add_argument(
        "--write", type=Path, help="a Markdown file, in which the table replaces that of such a processor"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the commands run and leave their files, empty at first (default: one that is thrown away)",
    )
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        loading = timed(["-c", IMPORT], folder)
        mog = timed([*DISTILSCOPE, "mog", "--exact", "--seeds", "5", "--beta", *BETAS, "--json"], folder)
        rows.append(
            (
                "mog --exact, 5 seeds, 10 β, without loading",
                f"{mog.seconds - loading.seconds:.1f}",
                f"{mog.peak / 1e6:,.0f} MB",
            )
        )
        for recipe in ("tiny", "smollm2_cpu"):
            run = timed([*DISTILSCOPE, "run", recipe, "--json"], folder)
            rows.append((f"run {recipe}", f"{run.seconds:,.0f}", f"{run.peak / 1e6:,.0f} MB"))
    tables = [(COLUMNS, rows)]
    page.show(page.machine(), tables)
    if options.write:
        page.write_beside_other_processors(options.write, "python -m benchmarks.whole", page.machine() + ".", tables)


if __name__ == "__main__":
    main()
