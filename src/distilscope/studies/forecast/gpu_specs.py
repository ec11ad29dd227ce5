"""GPUs that a plan counts with: what they could do at most, and how much of it work makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distilscope.errors import UsageError, unknown_name


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

UTILISATION = {"draws": 0.1, "training": 0.3, "scores": 0.25}
"""Share of the peak that is made use of, by kind of step: assumptions, measured on no GPU with this package.

Published trainings of language models reach 0.3 to 0.5 (PaLM's table 3, 2204.02311: 0.2 to 0.46), with kernels that
this package does not have. Scoring is training's forward pass beside softmaxes of every position. Drawing reads all
weights, and each slot's keys and values, for one token per slot: at a few hundred slots memory is what it waits for.
"""


def named(name: str) -> GPU:
    """UsageError, naming the nearest, where it is none of these."""
    if name not in GPUS:
        raise unknown_name("GPU", name, GPUS)
    return GPUS[name]


def utilisation(given: float | None) -> Mapping[str, float]:
    """By kind of step: the one given for all, else those above. Raises UsageError for a share that is none."""
    if given is None:
        return UTILISATION
    if not 0 < given <= 1:
        raise UsageError(f"--utilisation is {given}, but must be above 0 and at most 1, such as 0.3")
    return dict.fromkeys(UTILISATION, given)
