"""Which sequences each training step sees."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from distilscope.distribution import Key
from distilscope.lm.sequences import Sequences
from distilscope.lm.training.config import Training


@runtime_checkable
class BatchSource(Protocol):
    """The batches of a training.

    A batch is a function of what the source was made of and of the step, whatever was asked for before it; so a
    resumed training sees what it would have seen without the interruption.
    """

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        ...

    @property
    def tokens_per_batch(self) -> int:
        """Generated tokens of a batch, on average; stopping tokens counted, prompts not."""
        ...

    def batch(self, step: int) -> Sequences:
        """What step 0, 1, ... sees."""
        ...


@runtime_checkable
class Batching(Protocol):
    """Makes the batches of a training from its data, plan and key; `Epochs` is the first."""

    def __call__(self, data: Sequences, training: Training, key: Key, /) -> BatchSource: ...


class Epochs:
    """All the data in each epoch, in an order that is a function of (key, epoch) alone."""

    def __init__(self, data: Sequences, training: Training, key: Key) -> None:
        self._data, self._training, self._key = data, training, key
        self._epoch, self._permutation = -1, np.zeros(0, dtype=np.int64)  # of the epoch at hand

    @property
    def steps(self) -> int:
        return self._training.steps(len(self._data))

    @property
    def tokens_per_batch(self) -> int:
        return len(self._data.ids) * self._training.batch_sequences // len(self._data)

    def batch(self, step: int) -> Sequences:
        return self._data.take(self.rows(step))

    def rows(self, step: int) -> Int[np.ndarray, " b"]:
        """The places of a batch's sequences in the data."""
        batch = self._training.batch_sequences
        epoch, within = divmod(step, math.ceil(len(self._data) / batch))
        if epoch != self._epoch:
            random = self._key.child("order", epoch).generator()
            self._epoch, self._permutation = epoch, random.permutation(len(self._data))
        return self._permutation[within * batch : (within + 1) * batch]
