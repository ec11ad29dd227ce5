"""Matrices laid out once for the CPU's matrix library, which otherwise lays them out again at every product.

With 64 rows that is a sixth of the time of a decoding step, with 256 a twentieth; the products are the same to the last bit. torch
offers it only by operators that its compiler uses; where they are missing, or the format is not bfloat16, matrices stay as they are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def packed(weight: Float[Tensor, "o i"]) -> Tensor:
    """The matrix as `linear` takes it, for inference only."""
    weight = weight.detach()
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    if weight.dtype != torch.bfloat16 or not known or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x times the transposed matrix, packed or not."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "") if weight.is_mkldnn else F.linear(x, weight)
