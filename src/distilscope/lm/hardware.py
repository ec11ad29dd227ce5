"""What this machine's processor is good at: the one place where a number format is chosen by hardware."""

from __future__ import annotations

import torch

from distilscope.errors import UsageError


def resolved_dtype(dtype: str) -> str:
    """`auto` becomes bfloat16 where matrix products in it are fast, else float32; any other name stays."""
    if dtype != "auto":
        return dtype
    # emulation would be slower than float32, so only processors with instructions for it count
    fast = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bfloat16" if any(getattr(torch.cpu, name, lambda: False)() for name in fast) else "float32"


def require_dtype(dtype: str) -> None:
    """Raises UsageError for a name that is no number format this package computes in."""
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise UsageError(f"the dtype is {dtype!r}, but must be auto, float32, bfloat16 or float16")
