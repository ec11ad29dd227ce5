"""The activation of a feed-forward network: SwiGLU (Shazeer 2002.05202).

One pass over memory in fp32, rounded once; torch writes the activated half and then the product, and rounds both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.kernels.bfloat16 import element, number
from distilscope.lm.kernels.exp2 import LOG2_E, exp2
from distilscope.lm.kernels.numba_cache import compiled
from distilscope.lm.kernels.tensor_arrays import array, fits


def swiglu(gate_up: Float[Tensor, "t d2"]) -> Float[Tensor, "t d"]:
    """silu(gate) * up, where gate is the first half of each row and up the second."""
    if fits(gate_up):
        return _SwiGLU.apply(gate_up) if gate_up.requires_grad else _forward(gate_up)  # type: ignore[no-any-return]
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _forward(gate_up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (gate_up,) = ctx.saved_tensors
        grad_gate_up = torch.empty_like(gate_up)
        _gradient(array(gate_up), array(gradient.contiguous()), array(grad_gate_up))
        return grad_gate_up


def _forward(gate_up: Tensor) -> Tensor:
    result = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    _activate(array(gate_up), array(result))
    return result


@compiled
def _activate(gate_up: Any, result: Any) -> None:
    width = result.shape[1]
    for i in range(len(gate_up)):
        gate, up, into = gate_up[i, :width], gate_up[i, width:], result[i]
        for j in range(width):
            x = number(gate[j])
            into[j] = element(x / (np.float32(1) + exp2(-x * LOG2_E)) * number(up[j]), result)


@compiled
def _gradient(gate_up: Any, gradient: Any, grad_gate_up: Any) -> None:
    width = gradient.shape[1]
    for i in range(len(gate_up)):
        gate, up, along, grad_gate, grad_up = (
            gate_up[i, :width],
            gate_up[i, width:],
            gradient[i],
            grad_gate_up[i, :width],
            grad_gate_up[i, width:],
        )
        for j in range(width):
            x, y = number(gate[j]), number(along[j])
            sigmoid = np.float32(1) / (np.float32(1) + exp2(-x * LOG2_E))
            grad_gate[j] = element(
                y * number(up[j]) * sigmoid * (np.float32(1) + x * (np.float32(1) - sigmoid)), grad_gate_up
            )
            grad_up[j] = element(y * x * sigmoid, grad_gate_up)
