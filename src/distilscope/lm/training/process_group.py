"""Processes that train one network together, each on its share of every batch.

What they compute is added up, never averaged: gradients of the loss summed over tokens, whose mean is taken once, over
the whole batch. So the objective is the same for any number of processes, up to the order of a sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilscope.lm.device import collectives, device
from distilscope.lm.network import Trainable
from distilscope.lm.sequences import Sequences


@dataclass(frozen=True)
class Group:
    """A process's place among those that train together: number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def share(self, batch: Sequences) -> Sequences:
        """This process's part of a batch, maybe none: every `size`-th by length, so that all have as much to do."""
        return (
            batch if self.size == 1 else batch.take(np.argsort(-batch.positions, kind="stable")[self.rank :: self.size])
        )

    def add_up(self, tensor: Tensor) -> None:
        """Sums a tensor over all processes, in place; the result is the same for each, to the last bit."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)

    def totals(self, *numbers: float) -> list[float]:
        """Each number summed over all processes."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=device())
        self.add_up(tensor)
        return tensor.tolist()


ALONE = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """Joins the processes that torchrun has started, and leaves them at the end."""
    where = device()
    if where.type == "cuda":
        torch.cuda.set_device(where)
    torch.distributed.init_process_group(collectives(where))
    yield Group(torch.distributed.get_rank(), torch.distributed.get_world_size())
    torch.distributed.destroy_process_group()  # not after an error: it could wait for a process that has died


def gradient_in_one(network: Trainable) -> Tensor:
    """One tensor, zero for now, of which every weight's gradient becomes a view, so that one sum over all processes is
    enough. All weights have one dtype."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    whole = torch.zeros(sum(weight.numel() for weight in weights), dtype=weights[0].dtype, device=weights[0].device)
    for weight, part in zip(weights, whole.split([weight.numel() for weight in weights]), strict=True):
        weight.grad = part.view_as(weight)
    return whole
