"""The table that `plan` prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from distilscope.system.units import format_bytes, format_duration

LONG = 3600 * 24 * 365
"""Seconds beyond which a time is left out: nobody would wait for it."""


def plan_table(plan: dict[str, Any]) -> Table:
    total, gpu = plan["total"], plan["gpu"]
    clock = plan["time_by"] != "gpu" and total["seconds"] < LONG
    table = Table(
        title=(
            f"{plan['recipe']}: {total['to_run']:,} of {total['steps']:,} steps to run{_paced(plan) if clock else ''}"
        ),
        title_justify="left",
        caption="\n".join(_notes(plan)),
        caption_justify="left",
    )
    table.add_column("stage")
    for name in (
        "steps",
        "to run",
        "tokens",
        "FLOPs",
        "disk",
        "network",
        f"{gpu['name']} hours",
        *(["time"] if clock else []),
    ):
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
            format_bytes(row["disk_bytes"]),
            format_bytes(row["network_bytes"]),
            _hours(row["gpu_hours"]),
            *([format_duration(row["seconds"])] if clock else []),
        )
        table.add_row(row["stage"], *cells, row["why"])
    return table


def _paced(plan: dict[str, Any]) -> str:
    return (
        ", time of one worker as measured here"
        if plan["calibration"]
        else f", time at {plan['flops_per_second']:.3g} FLOP/s"
    )


def _notes(plan: dict[str, Any]) -> list[str]:
    gpu, used = plan["gpu"], plan["gpu"]["utilisation"]
    shares = ", ".join(f"{name} {share:g}" for name, share in used.items())
    notes = [
        f"teacher {plan['teacher_parameters']:,} and students {plan['student_parameters']:,} parameters; "
        "tokens are upper bounds: a sequence may end early",
        "network: each task reads all that it needs anew and writes to a shared store, trainings their checkpoints "
        "too; "
        f"{format_bytes(plan['store']['free_bytes'])} are free there",
        f"{gpu['name']} hours: of its {gpu['flops_per_second']:.3g} FLOP/s these shares are used, by assumption: "
        f"{shares}; however many of "
        f"them there are, a chain of steps takes {_hours(plan['shortest_gpu_hours'])} hours "
        "(training.processes shortens it)",
    ]
    if plan["calibration"]:
        measured = plan["calibration"]
        notes.append(
            f"measured in {format_duration(measured['seconds'])} on the study in miniature; with {measured['workers']} "
            "workers the whole takes "
            f"about {format_duration(measured['predicted_seconds'])}"
        )
    return notes


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}" if hours >= 0.01 else "under 0.01" if hours else "0"
