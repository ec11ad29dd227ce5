"""The protocol of a distribution, for mixtures and language models, and the random keys that make draws repeatable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sized
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distilscope.selectivity import Selectivity


@dataclass(frozen=True)
class Key:
    """The name of one stream of random numbers: a seed, and a path of names below it.

    Equal keys give equal numbers, different keys independent ones; seed 0 is a seed like any other.
    The stream is PCG64 seeded with 256 bits, the SHA-256 of the canonical form.
    """

    seed: int
    path: tuple[str | int | float, ...] = ()

    def child(self, *names: str | int | float) -> Key:
        """The key below this one with the given names."""
        return Key(self.seed, self.path + names)

    def generator(self) -> np.random.Generator:
        """A new generator at the start of this key's stream."""
        digest = hashlib.sha256(json.dumps([self.seed, *self.path]).encode()).digest()
        words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


X = TypeVar("X", bound=Sized)


class Distribution(Protocol[X]):
    """A distribution that can be drawn from, scored, and made more selective. Immutable."""

    def sample(self, n: int, key: Key) -> X:
        """`n` independent draws, a function of the key alone."""
        ...

    def log_prob(self, x: X) -> Float[Tensor, " n"]:
        """Log-probability (density) of each draw, in nats; -inf outside the support."""
        ...

    def select(self, by: Selectivity) -> Self:
        """A new, lower-entropy distribution: `log_softmax(by(logits))` at each categorical choice."""
        ...
