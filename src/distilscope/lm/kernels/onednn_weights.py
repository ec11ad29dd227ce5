"""Matrices laid out once for oneDNN, torch's own matrix library on a CPU, which otherwise lays them out again at every
product.

In bfloat16 with 64 rows that is a sixth of the time of a decoding step, with 256 a twentieth. In float32 torch would
call MKL, which on processors that are not Intel's leaves half of the vector unit unused: 120 GFLOP/s a core where
oneDNN makes 280. torch offers this only by operators that its compiler uses; where they are missing, matrices stay as
they are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def packed(weight: Float[Tensor, "o i"]) -> Tensor:
    """The matrix as `linear` takes it, for inference only."""
    weight = weight.detach()
    known = (
        weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
    fits = weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and known and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.ops.mkldnn._reorder_linear_weight(weight) if known and fits else weight


SPARE = 32
"""Rows of no meaning below a matrix in bfloat16 whose products' rows would else be whole pages: the same place in each
falls to the same few lines of the cache. With 256 rows of input, 49152 rows then take a fifth less time and 4096 rows a
quarter less."""


def with_spare(weight: Float[Tensor, "o i"]) -> Float[Tensor, "more i"]:
    """The matrix, and spare rows of zeros where they make its product faster: to be left out of that."""
    crowded = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and len(weight) % 2048 == 0
    return F.pad(weight, (0, 0, 0, SPARE)) if crowded else weight


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x times the transposed matrix, packed or not."""
    return (
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "") if weight.is_mkldnn else F.linear(x, weight)
    )
