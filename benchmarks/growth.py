"""How time and memory grow: the tiny study over its number of sequences, and drawing, training and scoring over the
horizon.

python -m benchmarks.growth [--write docs/performance.md] [--figure docs/images/growth.png]
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

from benchmarks import page
from benchmarks.command import DISTILSCOPE, Timing, timed

COLUMNS = ("tiny study", "sequences", "tokens", "seconds", "peak memory of all processes")
SEQUENCES = (1_000, 3_000, 10_000, 30_000, 100_000)
HORIZONS = (16, 32, 64, 128, 256)
ONE_SEED = ("--seeds", "1", "--temperatures", "0.85", "1.0")
SETS = 3
"""Training sets that one seed with two temperatures below draws or uses: D and two D'."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument(
        "--write", type=Path, help="a Markdown file whose part between two marks is replaced by the table"
    )
    parser.add_argument("--figure", type=Path, help="a PNG of both curves")
    options = parser.parse_args()
    by_sequences = {drawn: _study(num_train=drawn // SETS) for drawn in SEQUENCES}
    by_horizon = {horizon: _study(num_train=2048, horizon=horizon) for horizon in HORIZONS}
    rows = [("more sequences, horizon 16", *row) for row in map(_row, by_sequences.values())]
    rows += [(f"longer sequences, horizon {horizon}", *_row(found)) for horizon, found in by_horizon.items()]
    tables = [(COLUMNS, rows)]
    page.show(page.machine(), tables)
    if options.write:
        page.write(options.write, "python -m benchmarks.growth", page.machine() + ".", tables)
    if options.figure:
        _draw(options.figure, by_sequences, by_horizon)


Found = tuple[int, int, Timing]
"""Sequences drawn, tokens drawn, and what it took."""


def _study(*, num_train: int, horizon: int = 16) -> Found:
    with tempfile.TemporaryDirectory() as scratch:
        sizes = ["--num-train", str(num_train), "--horizon", str(horizon), *ONE_SEED]
        found = timed([*DISTILSCOPE, "run", "tiny", *sizes, "--json"], Path(scratch))
        counts = [
            json.loads(path.read_text())["counts"]
            for path in Path(scratch).glob("runs/tiny/store/draws/*/manifest.json")
        ]
        return sum(one["sequences"] for one in counts), sum(one["tokens"] for one in counts), found


def _row(found: Found) -> tuple[str, ...]:
    sequences, tokens, timing = found
    return f"{sequences:,}", f"{tokens:,}", f"{timing.seconds:.1f}", f"{timing.peak / 1e6:,.0f} MB"


def _draw(path: Path, by_sequences: dict[int, Found], by_horizon: dict[int, Found]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    curves = (
        (panels[0], "sequences drawn", [(found[0], found[2]) for found in by_sequences.values()]),
        (panels[1], "horizon (tokens)", [(horizon, found[2]) for horizon, found in by_horizon.items()]),
    )
    for panel, across, points in curves:
        xs, seconds, memory = [x for x, _ in points], [t.seconds for _, t in points], [t.peak / 1e6 for _, t in points]
        panel.loglog(xs, seconds, "o-", color="#0072b2")
        panel.set(xlabel=across, ylabel="seconds")
        panel.yaxis.label.set_color("#0072b2")
        line = [seconds[-1] * x / xs[-1] for x in xs]
        panel.loglog(xs, line, ":", color="#0072b2", alpha=0.6)
        panel.annotate(
            "in proportion", (xs[1], line[1]), (0, -12), textcoords="offset points", color="#0072b2", fontsize=9
        )
        other = panel.twinx()
        other.semilogx(xs, memory, "s--", color="#d55e00")
        other.set_ylim(0, 1.25 * max(memory))
        other.set_ylabel("peak memory of all processes (MB)", color="#d55e00")
        panel.set_ylim(10 ** math.floor(math.log10(min(line))), None)
    panels[1].set_xticks(list(by_horizon), map(str, by_horizon))
    panels[1].minorticks_off()
    panels[0].set_title("The tiny study over its number of sequences")
    panels[1].set_title("and over the length of a sequence")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
