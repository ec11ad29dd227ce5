"""What this machine's processor is good at: the one place where a number format is chosen by hardware."""

from __future__ import annotations

import torch


def resolved_dtype(dtype: str) -> str:
    """`auto` becomes bfloat16 where matrix products in it are fast, else float32; any other name stays."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"
