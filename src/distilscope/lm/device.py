"""The device and number format of this process: the one place where both are chosen."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilscope.errors import UsageError


def device() -> torch.device:
    """Where networks are: the first GPU that this process may see (CUDA_VISIBLE_DEVICES says which), else the
    processor.

    Of processes that train together each has the GPU of its own number, as torchrun's LOCAL_RANK counts them.
    """
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def collectives(where: torch.device) -> str:
    """The backend of torch.distributed for processes whose networks are on this device."""
    return "nccl" if where.type == "cuda" else "gloo"


def require_devices(processes: int) -> None:
    """Raises UsageError if there are GPUs, but not one for each of the processes that train together."""
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise UsageError(
            f"training.processes is {processes}, but a training here sees {torch.cuda.device_count()} GPUs and each "
            "process needs its own; "
            "lower training.processes, or set more GPUs aside"
        )


def send(array: np.ndarray, where: torch.device) -> Tensor:
    """An array as a tensor on a device; on a GPU through pinned memory, without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(where, non_blocking=True) if where.type == "cuda" else tensor.to(where)


def fetch(tensor: Tensor) -> Any:
    """A tensor's values as an array of numpy, from whichever device."""
    return tensor.cpu().numpy()


def autocast(where: torch.device, precision: torch.dtype) -> torch.autocast:
    """Products in `precision`, what needs more in float32; nothing changes where that is float32."""
    mixed = precision != torch.float32
    return torch.autocast(where.type, precision if mixed else None, enabled=mixed)


def fast_dtype() -> str:
    """What `auto` becomes for work in this process: bfloat16 where its device multiplies it fast, else float32."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # emulation would be slower than float32, so only processors with instructions for it count
    fast = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bfloat16" if any(getattr(torch.cpu, name, lambda: False)() for name in fast) else "float32"


def resolved_dtype(dtype: str) -> str:
    """`auto` becomes what is fast in this process; any other name stays."""
    return fast_dtype() if dtype == "auto" else dtype
