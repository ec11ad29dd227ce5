"""The table that `plan` prints."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from rich.table import Table

from distilscope.evaluation.documents import record_of
from distilscope.system.units import format_bytes, format_duration

LONG = 3600 * 24 * 365
"""Seconds beyond which a time is left out: nobody would wait for it."""


class Sums(Struct, frozen=True, kw_only=True):
    """Of a stage, or of all; everything but `steps` counts what is still to run."""

    steps: int
    to_run: int
    tokens: int
    flops: float
    disk_bytes: int
    network_bytes: int
    seconds: float
    gpu_hours: float


class Stage(Sums, frozen=True, kw_only=True):
    stage: str
    why: str
    """Why its steps run."""


class GPU(Struct, frozen=True, kw_only=True):
    name: str
    flops_per_second: float
    utilisation: dict[str, float]
    """By kind of step."""


class Calibration(Struct, frozen=True, kw_only=True):
    seconds: float
    workers: int
    predicted_seconds: float


class StoreSpace(Struct, frozen=True, kw_only=True):
    free_bytes: int


class Plan(Struct, frozen=True, kw_only=True):
    """What the table shows of the document that `plan --json` prints."""

    recipe: str
    flops_per_second: float
    time_by: str
    calibration: Calibration | None
    stages: tuple[Stage, ...]
    total: Sums
    teacher_parameters: int
    student_parameters: int
    gpu: GPU
    shortest_gpu_hours: float
    store: StoreSpace


def plan_table(document: dict[str, Any]) -> Table:
    """A row per stage, then their total."""
    plan = record_of(document, Plan)
    total = plan.total
    clock = plan.time_by != "gpu" and total.seconds < LONG
    table = Table(
        title=f"{plan.recipe}: {total.to_run:,} of {total.steps:,} steps to run{_paced(plan) if clock else ''}",
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
        f"{plan.gpu.name} hours",
        *(["time"] if clock else []),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for row in plan.stages:
        table.add_row(row.stage, *_cells(row, clock=clock), row.why)
    table.add_section()
    table.add_row("total", *_cells(total, clock=clock), "")
    return table


def _cells(sums: Sums, *, clock: bool) -> list[str]:
    return [
        f"{sums.steps:,}",
        f"{sums.to_run:,}",
        f"{sums.tokens:,}",
        f"{sums.flops:.2e}",
        format_bytes(sums.disk_bytes),
        format_bytes(sums.network_bytes),
        _hours(sums.gpu_hours),
        *([format_duration(sums.seconds)] if clock else []),
    ]


def _paced(plan: Plan) -> str:
    return (
        ", time of one worker as measured here" if plan.calibration else f", time at {plan.flops_per_second:.3g} FLOP/s"
    )


def _notes(plan: Plan) -> list[str]:
    gpu = plan.gpu
    shares = ", ".join(f"{name} {share:g}" for name, share in gpu.utilisation.items())
    notes = [
        f"teacher {plan.teacher_parameters:,} and students {plan.student_parameters:,} parameters; "
        "tokens are upper bounds: a sequence may end early",
        "network: each task reads all that it needs anew and writes to a shared store, trainings their checkpoints "
        f"too; {format_bytes(plan.store.free_bytes)} are free there",
        f"{gpu.name} hours: of its {gpu.flops_per_second:.3g} FLOP/s these shares are used, by assumption: {shares}; "
        f"however many of them there are, a chain of steps takes {_hours(plan.shortest_gpu_hours)} hours "
        "(training.processes shortens it)",
    ]
    if plan.calibration:
        measured = plan.calibration
        notes.append(
            f"measured in {format_duration(measured.seconds)} on the study in miniature; with {measured.workers} "
            f"workers the whole takes about {format_duration(measured.predicted_seconds)}"
        )
    return notes


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}" if hours >= 0.01 else "under 0.01" if hours else "0"
