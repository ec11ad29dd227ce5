"""The table that `plan` prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def plan_table(plan: dict[str, Any]) -> Table:
    total = plan["total"]
    table = Table(
        title=f"{plan['recipe']}: {total['to_run']:,} of {total['steps']:,} steps to run, time at {plan['flops_per_second']:.3g} FLOP/s",
        title_justify="left",
        caption=f"teacher {plan['teacher_parameters']:,} and students {plan['student_parameters']:,} parameters; "
        "tokens are upper bounds: a sequence may end early",
    )
    table.add_column("stage")
    for name in ("steps", "to run", "tokens", "FLOPs", "disk", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for row in [*plan["stages"], {"stage": "total", "why": "", **total}]:
        if row["stage"] == "total":
            table.add_section()
        cells = (
            f"{row['steps']:,}",
            f"{row['to_run']:,}",
            f"{row['tokens']:,}",
            f"{row['flops']:.2e}",
            _bytes(row["disk_bytes"]),
            _duration(row["seconds"]),
        )
        table.add_row(row["stage"], *cells, row["why"])
    return table


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _duration(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"
