"""The records of run.json: what results.json must not hold, which is time, command, engine, machine and versions."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from distilscope.evaluation.documents import Number, Whole


class Stage(Struct, frozen=True, kw_only=True):
    steps: Whole
    worker_seconds: Number
    tokens: Whole


class Machine(Struct, frozen=True, kw_only=True):
    system: str
    processor: str
    cores: Whole


class RunRecord(Struct, frozen=True, kw_only=True):
    """All of run.json."""

    schema_version: Literal[1] = 1
    began: str
    seconds: Number
    command: tuple[str, ...]
    engine: str
    ray_address: str | None
    workers: Whole
    resources: dict[str, Whole]
    reference: str
    machine: Machine
    versions: dict[str, str]
    stages: dict[str, Stage]
