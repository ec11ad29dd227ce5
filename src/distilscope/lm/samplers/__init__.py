"""Engines that draw sequences from a network; the two gates (`evaluation.gates`) check the draws of each."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from distilscope.distribution import Key
from distilscope.lm.network import Network
from distilscope.lm.sequences import Prompts, Sequences
from distilscope.selectivity import Selectivity


@runtime_checkable
class Sampler(Protocol):
    """Draws sequences from a network; `decoder_sampler.draw` is the first."""

    def __call__(
        self,
        network: Network,
        *,
        prompts: Prompts,
        prompt_of: Int[np.ndarray, " draws"],
        horizon: int,
        stopping: Set[int],
        selectivity: Selectivity,
        slots: int,
        key: Key,
    ) -> Sequences:
        """One sequence after each prompt named in `prompt_of` (by its place among `prompts`), in that order.

        A sequence ends with its first token of `stopping`, else it is cut at `horizon` tokens. Each token's
        log-probability under the selected distribution is recorded (nats). The bytes are a function of the network and
        the arguments alone; `slots` is how many sequences are generated at once.
        """
        ...
