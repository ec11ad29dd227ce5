"""What a study will take before anything runs: per stage work, time, bytes on disk and over the network; and whether it
fits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilscope.errors import StoreError
from distilscope.pipeline.execute import needed
from distilscope.pipeline.schedule import makespan
from distilscope.pipeline.step import Step, order
from distilscope.pipeline.store import Store
from distilscope.studies.forecast.gpu_specs import GPU
from distilscope.studies.overrides import as_settings
from distilscope.studies.study import Study
from distilscope.system.units import format_bytes

SURELY = 0.5
"""Share of the bytes foreseen, which count every sequence at its full length, that a study is taken to write at the
least."""

SUMS = ("steps", "to_run", "tokens", "flops", "disk_bytes", "read_bytes", "network_bytes", "seconds", "gpu_hours")


@dataclass(frozen=True)
class Clock:
    """How the time that a step takes is told."""

    name: str
    """`rate`: all FLOPs alike; `gpu`: on one such GPU; `calibration`: as measured here."""
    seconds: Callable[[Step], float]
    flops_per_second: float | None = None
    """The one rate; None where there are several, and their mean is said."""
    measured: Mapping[str, Any] | None = None
    """What the calibration found."""


def describe(
    study: Study,
    store: Store,
    *,
    clock: Clock,
    gpu: GPU,
    utilisation: Mapping[str, float],
) -> dict[str, Any]:
    """What would run and why, by stage. Loads no model.

    GPU-hours are of steps that compute with a network, at this utilisation of the GPU, by kind. Reading is counted as
    if each process of each task read all its inputs anew, of a tokenizer's model next to nothing; a worker keeps models
    between its tasks.
    """
    missing = set(needed(study.targets, store))
    stages: dict[str, dict[str, Any]] = {}
    for step in order(study.targets):
        used = utilisation.get(step.kind)
        empty = dict.fromkeys(SUMS, 0) | {"flops": 0.0, "seconds": 0.0, "gpu_hours": 0.0, "memory_bytes": 0}
        stage = stages.setdefault(step.stage, {"stage": step.stage, "kind": step.kind, "utilisation": used} | empty)
        stage["steps"] += 1
        if step in missing:
            cost = study.costs[step]
            read = step.needs.processes * sum(
                study.costs[source].disk for name, source in step.inputs.items() if name != "tokenizer"
            )
            stage["to_run"] += 1
            stage["tokens"] += step.tokens
            stage["flops"] += step.cost
            stage["disk_bytes"] += cost.disk
            stage["read_bytes"] += read
            stage["network_bytes"] += read + cost.disk + cost.checkpoints
            stage["memory_bytes"] = max(stage["memory_bytes"], cost.memory)
            stage["seconds"] += clock.seconds(step)
            stage["gpu_hours"] += gpu_seconds(step, gpu, utilisation) / 3600
    for stage in stages.values():
        kept = stage["steps"] - stage["to_run"]
        stage["why"] = (
            "in the store"
            if not stage["to_run"]
            else "not in the store"
            if not kept
            else f"{kept} in the store, {stage['to_run']} not"
        )
    rows = list(stages.values())
    total = {name: sum(row[name] for row in rows) for name in SUMS}
    todo = [step for step in order(study.targets) if step in missing]
    one_after_another = {step: gpu_seconds(step, gpu, utilisation) / step.needs.processes for step in todo}
    free = free_bytes(store)
    return {
        "schema_version": 1,
        "recipe": study.config.recipe,
        "flops_per_second": clock.flops_per_second
        or (total["flops"] / total["seconds"] if total["seconds"] else gpu.flops_per_second),
        "time_by": clock.name,
        "calibration": clock.measured,
        "stages": rows,
        "total": total,
        "config": as_settings(study.config),
        "teacher_parameters": study.parameters["teacher"],
        "student_parameters": study.parameters["student"],
        "gpu": {
            "name": gpu.name,
            "flops_per_second": gpu.flops_per_second,
            "memory_bytes": gpu.memory,
            "utilisation": dict(utilisation),
        },
        "shortest_gpu_hours": makespan(todo, one_after_another, max(1, sum(step.needs.cores for step in todo))) / 3600,
        "store": {"folder": str(store.root), "free_bytes": free, "suffices": total["disk_bytes"] <= free},
        "warnings": list(_warnings(rows, total["disk_bytes"], free, store.root, gpu)),
    }


def gpu_seconds(step: Step, gpu: GPU, utilisation: Mapping[str, float]) -> float:
    """On one GPU; 0 for a step that computes with no network."""
    return step.cost / (gpu.flops_per_second * utilisation[step.kind]) if step.kind in utilisation else 0.0


def require_space(study: Study, store: Store) -> None:
    """Raises StoreError where the disk under the store plainly cannot hold what is still to be written."""
    need = sum(study.costs[step].disk for step in needed(study.targets, store))
    free = free_bytes(store)
    if SURELY * need > free:
        raise StoreError(
            f"the study would write about {format_bytes(need)}, but {format_bytes(free)} are free on the disk that "
            f"holds {store.root}; free some space, give another store (DISTILSCOPE_STORE), or lower --num-train or "
            "--horizon"
        )


def free_bytes(store: Store) -> int:
    """On the disk that the store is, or will be, on."""
    return shutil.disk_usage(next(place for place in (store.root, *store.root.parents) if place.exists())).free


def _warnings(rows: Iterable[Mapping[str, Any]], need: int, free: int, root: Path, gpu: GPU) -> Iterator[str]:
    if need > free:
        yield (
            f"about {format_bytes(need)} would be written, but {format_bytes(free)} are free on the disk that holds "
            f"{root}; free some space, or give another store (DISTILSCOPE_STORE)"
        )
    for row in rows:
        if row["memory_bytes"] > gpu.memory:
            parameter = {"draws": "slots", "training": "training.microbatch_tokens"}.get(row["kind"], "tile")
            yield (
                f"{row['stage']!r} would fill about {format_bytes(row['memory_bytes'])} of memory, but a GPU of the "
                f"kind {gpu.name} has {format_bytes(gpu.memory)}; lower {parameter}, or count with another --gpu"
            )
