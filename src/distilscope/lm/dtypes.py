"""Number formats by name, and what `auto` stands for where work runs. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from distilscope.errors import UsageError

DTYPES = ("auto", "float32", "bfloat16", "float16")


def require_dtype(dtype: str, name: str = "the dtype") -> None:
    """Raises UsageError for a name that is no number format this package computes in."""
    if dtype not in DTYPES:
        raise UsageError(f"{name} is {dtype!r}, but must be auto, float32, bfloat16 or float16")


@dataclass(frozen=True)
class AutoDtypes:
    """What `auto` becomes on the devices that compute; the machine that plans may be another one."""

    tiles: str
    """Where draws are made and scored."""
    training: str
