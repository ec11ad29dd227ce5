"""What drawing and scoring need of a neural network: logits for whole sequences, and one step at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.lm.sequences import Prompts, Sequences
from distilscope.system.thread_pool import Part, Result, map_in_threads

Next = tuple[Float[Tensor, "n v"], Int[np.ndarray, " m"]]
"""Logits of next tokens, and for each of the slots asked for which row of them is its own; slots may share one."""


@runtime_checkable
class Decoder(Protocol):
    """A fixed number of slots, each generating one sequence after one of the prompts."""

    restarts_one_by_one: bool
    """Whether a slot may begin again while others go on; otherwise all begin together, after one prompt."""

    def begin(self, slots: Int[np.ndarray, " m"], prompts: Int[np.ndarray, " m"]) -> Next:
        """Takes these slots to the end of these prompts (by their place among the decoder's), each one's first token
        next."""
        ...

    def step(self, slots: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> Next:
        """Feeds these slots, which are all that generate a sequence now, their latest tokens."""
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

    @property
    def reentrant(self) -> bool:
        """Whether it is faster for several threads to compute with it at once, each its own piece, and whether they
        may."""
        ...

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        """Logits that predict each token of the batch in order, in pieces of `PIECE` (the last may be smaller)."""
        ...

    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> Decoder: ...


def threads_for(networks: Iterable[Network]) -> int:
    """How many threads compute with these networks at once: as many as torch has here, or 1."""
    return torch.get_num_threads() if all(network.reentrant for network in networks) else 1


def over_threads(
    networks: Iterable[Network], work: Callable[[Part], Result], parts: Iterable[Part], most: int
) -> Iterator[Result]:
    """work(part) of every part, in their order, on the threads that compute with these networks at once, or on `most`
    of them.

    Fewer than torch has share torch's among them, so `most` is at most the number of parts.
    """
    threads = max(1, min(most, threads_for(networks)))
    return map_in_threads(work, parts, threads, each=torch.get_num_threads() // threads)


PIECE = 256
"""Positions whose logits over the whole vocabulary are computed at once."""

HELD = 1 << 20
"""Most logits held in fp32 at once: 4 MiB stay in the processor's cache, where their softmax took a tenth of the time
that 256 positions of 49152 tokens took at once."""


def in_pieces(logits: Float[Tensor, "n v"]) -> Iterator[Float[Tensor, "piece v"]]:
    """The same logits in fp32, a few positions at a time; what has been taken is kept by nobody else."""
    pieces = deque(logits.split(max(1, HELD // logits.shape[-1])))
    del logits
    while pieces:
        yield pieces.popleft().float()
