"""What drawing and scoring need of a neural network: logits for whole sequences, and one step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.sequences import Prompts, Sequences


@runtime_checkable
class Decoder(Protocol):
    """A fixed number of slots, each generating one sequence after one of the prompts."""

    restarts_one_by_one: bool
    """Whether a slot may begin again while others go on; otherwise all begin together, after one prompt."""

    def begin(self, slots: Int[np.ndarray, " m"], prompts: Int[np.ndarray, " m"]) -> None:
        """Takes these slots to the end of these prompts (by their place among the decoder's)."""
        ...

    def step(self, tokens: Int[np.ndarray, " slots"]) -> Float[Tensor, "slots v"]:
        """Feeds each slot its latest token (the prompt's last one after `begin`); the next token's logits."""
        ...


@runtime_checkable
class Network(Protocol):
    """An autoregressive network over token ids below `vocabulary`."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def context(self) -> int:
        """Most tokens, prompt included, that it can take."""
        ...

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        """Logits that predict each token of the batch in order, in pieces of `PIECE` (the last may be smaller)."""
        ...

    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> Decoder: ...


PIECE = 256
"""Positions whose logits over the whole vocabulary are computed at once."""

HELD = 1 << 20
"""Most logits held in fp32 at once: 4 MiB stay in the processor's cache, where their softmax took a tenth of the time that 256
positions of 49152 tokens took at once."""


def in_pieces(logits: Float[Tensor, "n v"]) -> Iterator[Float[Tensor, "piece v"]]:
    """The same logits in fp32, a few positions at a time."""
    for piece in logits.split(max(1, HELD // logits.shape[-1])):
        yield piece.float()
