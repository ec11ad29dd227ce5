"""The gate of a feed-forward network (SwiGLU; Shazeer 2002.05202)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.compiled import PER_NAT, array, compiled, element, fits, number, over_rows, power_of_two


def gated(gate_up: Float[Tensor, "t d2"]) -> Float[Tensor, "t d"]:
    """silu(gate) * up, where gate is the first half of each row and up the second. Without a gradient it is rounded once."""
    if (torch.is_grad_enabled() and gate_up.requires_grad) or not fits(gate_up):
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up
    result = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    over_rows(_gated, *result.shape, array(gate_up), array(result))
    return result


@compiled
def _gated(first: Any, end: Any, gate_up: Any, result: Any) -> None:
    width = result.shape[1]
    for i in range(first, end):
        gate, up, into = gate_up[i, :width], gate_up[i, width:], result[i]
        for j in range(width):
            x = number(gate[j])
            into[j] = element(x / (np.float32(1) + power_of_two(-x * PER_NAT)) * number(up[j]), result)
