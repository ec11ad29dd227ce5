"""Which sequences each training step sees."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

from distilscope.distribution import Key


class _Order:
    """Which sequences each step sees: a permutation per epoch, from the key alone."""

    def __init__(self, sequences: int, batch: int, key: Key) -> None:
        self.sequences, self.batch, self.key = sequences, batch, key
        self.epoch, self.permutation = -1, np.zeros(0, dtype=np.int64)

    def rows(self, step: int) -> Int[np.ndarray, " b"]:
        epoch, within = divmod(step, math.ceil(self.sequences / self.batch))
        if epoch != self.epoch:
            self.epoch, self.permutation = epoch, self.key.child("order", epoch).generator().permutation(self.sequences)
        return self.permutation[within * self.batch : (within + 1) * self.batch]
