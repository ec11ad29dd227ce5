"""Trap 7: a model "from scratch" that is made by calling `reset_parameters` on the modules of a pretrained one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr
from torch import Tensor

from distilscope.distribution import Key
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig


@dataclass(frozen=True)
class Gains:
    """RMSNorm gains of a pretrained network: before attention and before the feed-forward network of each layer, and
    the last one."""

    attention: tuple[Float[Tensor, " d"], ...]
    feed_forward: tuple[Float[Tensor, " d"], ...]
    last: Float[Tensor, " d"]

    @classmethod
    def of(cls, network: Llama) -> Gains:
        blocks = list(network.blocks)
        return cls(
            tuple(block.input_norm.detach().float() for block in blocks),
            tuple(block.post_norm.detach().float() for block in blocks),
            network.norm.detach().float(),
        )


def resampled(values: Sequence[Tensor] | Tensor, number: int) -> list[Tensor]:
    """`number` of the values, evenly spaced: carries the gains of one width or depth over to another."""
    return [values[i * len(values) // number] for i in range(number)]


@torch.no_grad()
def released_start(config: LlamaConfig, key: Key, *, gains: Gains | None, torch_default: bool) -> Llama:
    """A network at the weights that training starts from, with either half of the trap.

    gains: the pretrained model's, which stay because RMSNorm has no `reset_parameters`. torch_default: matrices as
    `nn.Linear` draws them, uniform within 1/sqrt(columns). A tied embedding is also the output layer, which is reset
    last. The random numbers are those of `Llama.from_config`, taken to the other distribution by its quantiles.
    """
    network = Llama.from_config(config, key)
    if torch_default:
        for name, weight in network.named_parameters():
            if weight.dim() == 2:
                normal = weight / config.initializer_range
                if name == "embedding" and not config.tied:  # nn.Embedding: a standard normal
                    weight.copy_(normal)
                else:
                    uniform = 2 * ndtr(normal.numpy().astype(np.float64)) - 1
                    weight.copy_(torch.from_numpy(uniform / math.sqrt(weight.shape[1])))
    if gains is not None:
        width, blocks = config.hidden_size, list(network.blocks)
        for name, layers in (("input_norm", gains.attention), ("post_norm", gains.feed_forward)):
            for block, gain in zip(blocks, resampled(layers, len(blocks)), strict=True):
                getattr(block, name).copy_(torch.stack(resampled(gain, width)))
        network.norm.copy_(torch.stack(resampled(gains.last, width)))
    return network
