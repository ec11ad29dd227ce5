"""Tensors as compiled loops take them, and for which tensors there are compiled loops.

A loop takes arrays of float32, or of int16 that hold bfloat16's bits; it computes in float32, and what becomes of a row
depends on nothing but that row. On a GPU, in float16 and where torch uses several threads, torch's own operations do
the same work.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def fits(tensor: Tensor) -> bool:
    """Whether the compiled loops are for it: on a processor, in float32 or bfloat16, in one piece, and where torch uses
    one thread.

    Torch's other threads spin between its operations, on the cores that loops of ours on threads of our own would need.
    """
    return (
        tensor.is_cpu
        and tensor.dtype in (torch.float32, torch.bfloat16)
        and tensor.is_contiguous()
        and torch.get_num_threads() == 1
    )


def in_rows(tensor: Tensor) -> Tensor:
    """In one piece: itself, or with what stands behind each of its rows up to the next one."""
    apart = tensor.stride(0)
    held = tensor.untyped_storage().nbytes() // tensor.itemsize - tensor.storage_offset()
    if tensor.is_contiguous() or tensor.stride()[1:] != (1,) or apart < tensor.shape[1] or held < len(tensor) * apart:
        return tensor
    return tensor.as_strided((len(tensor), apart), (apart, 1))


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory, bfloat16 as int16."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.numpy() if tensor.dtype == torch.float32 else tensor.view(torch.int16).numpy()
