"""GPUs that a plan counts with: what they could do at most, and how much of it steps make use of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distilscope.errors import UsageError, unknown_name
from distilscope.studies.steps.registry import KINDS


@dataclass(frozen=True)
class GPU:
    """One processor."""

    name: str
    flops_per_second: float
    """Dense products in bfloat16, at most; where a data sheet counts zeros that are left out ("with sparsity"), half of
    that."""
    memory: float
    """Bytes."""
    dtype: str = "bfloat16"
    """What `auto` becomes on it."""


GPUS = {
    gpu.name: gpu
    for gpu in (
        # NVIDIA's data sheets of these products, the SXM variant where there are several
        GPU("b200", 2.25e15, 180e9),
        GPU("h200", 9.89e14, 141e9),
        GPU("h100", 9.89e14, 80e9),
        GPU("a100", 3.12e14, 80e9),
        GPU("l40s", 3.62e14, 48e9),
        GPU("l4", 1.21e14, 24e9),
        GPU("a10", 1.25e14, 24e9),
    )
}


def named(name: str) -> GPU:
    """UsageError, naming the nearest, where it is none of these."""
    if name not in GPUS:
        raise unknown_name("GPU", name, GPUS)
    return GPUS[name]


def utilisation(given: float | None) -> Mapping[str, float]:
    """Share of the peak, for each kind of step that computes with a network: the one given for all, else what each is
    assumed to reach. Raises UsageError for a share that is not above 0 and at most 1."""
    if given is not None and not 0 < given <= 1:
        raise UsageError(f"--utilisation is {given}, but must be above 0 and at most 1, such as 0.3")
    reached = {name: kind.utilisation for name, kind in KINDS.items()}
    return {name: given or share for name, share in reached.items() if share is not None}
