"""What the audit's own kind of step does, in whichever process does it: one trap in one seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from distilscope.studies.audit.evidence import Finding
from distilscope.studies.audit.one_seed import Material
from distilscope.studies.audit.traps import TRAPS
from distilscope.studies.costs import Cost
from distilscope.studies.steps.registry import StepKind, register


def measure(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    trap = next(trap for trap in TRAPS if trap.number == config["trap"])
    module, _, name = trap.measure.partition(":")
    finding: Finding = getattr(import_module(module), name)(Material(config, inputs))
    (output / "finding.json").write_text(
        json.dumps(finding.as_json(), ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return {"readings": len(finding.readings)}


def read_finding(folder: Path) -> Finding:
    return Finding.from_json(json.loads((folder / "finding.json").read_text(encoding="utf-8")))


def cost(*, training: float, scoring: float) -> Cost:
    """At most about three trainings like the direct student's, and its draws scored once; both given in FLOPs."""
    return Cost(3 * training + scoring)


AUDIT = register(StepKind("audit", version=1, function="distilscope.studies.audit.step:measure", cost=cost))
