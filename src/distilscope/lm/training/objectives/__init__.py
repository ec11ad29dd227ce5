"""What a student minimises: one file for each objective."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from distilscope.lm.network import Network, Trainable
from distilscope.lm.sequences import Sequences


@runtime_checkable
class Objective(Protocol):
    """A loss of each generated token; `cross_entropy.token_loss` is the first.

    The training loop adds it up over the tokens of a batch and takes the mean, whatever the number of processes and
    microbatches.
    """

    def __call__(self, student: Trainable, batch: Sequences, teacher: Network | None, /) -> Float[Tensor, " tokens"]:
        """The loss of each token of the batch in nats, in order, with a gradient with respect to the student's weights.

        `teacher` is the model that an objective compares the student with; None for one that needs none.
        """
        ...
