"""What drawing, scoring and training need of a neural network, as protocols: `Network`, its `Decoder`, `Trainable`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distilscope.lm.sequences import Prompts, Sequences
from distilscope.system.thread_pool import Part, Result, map_in_threads

Next = tuple[Float[Tensor, "n v"], Int[np.ndarray, " m"]]
"""Logits of next tokens, and for each of the slots asked for which row of them is its own; slots may share one."""


@runtime_checkable
class Decoder(Protocol):
    """A fixed number of slots, each generating one sequence after one of the prompts."""

    restarts_one_by_one: bool
    """Whether a slot may begin again while others go on; otherwise all begin together, after the same prompt."""

    def begin(self, slots: Int[np.ndarray, " m"], prompts: Int[np.ndarray, " m"]) -> Next:
        """Puts each of these slots at the end of a prompt (by its place among the decoder's); returns the logits of the
        first tokens."""
        ...

    def step(self, slots: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> Next:
        """Feeds the slots their latest tokens; they are all the slots that are generating a sequence now."""
        ...


@runtime_checkable
class Network(Protocol):
    """An autoregressive network over token ids below `vocabulary`."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def context(self) -> int:
        """Most tokens that it can read, prompt included."""
        ...

    @property
    def reentrant(self) -> bool:
        """Whether several threads may compute with it at once, each its own batch, and are faster so."""
        ...

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        """Logits that predict each token of the batch in order, in pieces of `PIECE` (the last may be smaller)."""
        ...

    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> Decoder: ...


@runtime_checkable
class Trainable(Protocol):
    """A network whose weights are learnt. An `nn.Module` lacks only the two properties and the last three methods."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def to(self, device: torch.device, /) -> object:
        """Moves the weights, in place."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that are learnt, always in the same order."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """The weights by name, as a checkpoint keeps them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...

    def training_logits(self, batch: Sequences) -> Float[Tensor, "rows v"]:
        """Logits, with a gradient, that predict each token of the batch in order. They may be written over.

        Further rows may follow, which mean nothing and which no loss counts: a matrix product can be faster with them.
        """
        ...

    def frozen(self) -> Network:
        """The network as it is now, on the same weights in memory, to draw and score with."""
        ...

    def write(self, folder: Path, *, stopping: frozenset[int], tokenizer: str | None) -> None:
        """Writes a model folder that `CausalLM.from_folder` reads; `tokenizer` is the text of tokenizer.json."""
        ...


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

FP32_LOGITS = 1 << 20
"""Most logits held in fp32 at once: 4 MiB stay in the processor's cache, where their softmax took a tenth of the time
that 256 positions of 49152 tokens took at once."""


def in_pieces(logits: Float[Tensor, "n v"]) -> Iterator[Float[Tensor, "piece v"]]:
    """The same logits in fp32, a few positions at a time; a piece is freed as soon as its taker drops it."""
    pieces = deque(logits.split(max(1, FP32_LOGITS // logits.shape[-1])))
    del logits
    while pieces:
        yield pieces.popleft().float()
