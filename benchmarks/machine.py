"""What this machine can do at best, and what the matrix products of a stage therefore cost at least.

The floor of a stage is the time of its matrix products alone, in the shapes that it uses: every layer's own weights,
one after another as a forward pass meets them (so that weights that do not fit into the cache come from memory), and
for training the two products of the backward pass as well. Attention's own products, norms, softmax and sampling are
left out; they are what a stage adds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from distilscope.lm.kernels.onednn_weights import linear, reordered
from distilscope.lm.models.llama_config import LlamaConfig

PASSES = 5
"""Of the same products, one after another."""


@dataclass(frozen=True)
class Stage:
    """What passes through the network at once."""

    config: LlamaConfig
    dtype: torch.dtype
    rows: int
    """Of each matrix product."""
    context: float = 0.0
    """Cached keys and values that each row reads, where it decodes (tokens)."""
    trains: bool = False
    draws: int = 0
    """Tokens that each row draws, where it decodes; the first comes of reading the prompt, once for all rows."""

    @property
    def rows_per_token(self) -> float:
        """Rows that pass through the network for each token."""
        return 1 - 1 / self.draws if self.draws else 1.0

    @property
    def flops_per_token(self) -> float:
        """Multiply-adds x 2 of the matrix products; a backward pass costs two forward ones."""
        return self.config.flops_per_token * self.rows_per_token * (3 if self.trains else 1)

    @property
    def bytes_per_token(self) -> float:
        """Weights are read once a pass for all rows (three times where it trains), the cache by each row, logits
        written in fp32."""
        c, size = self.config, self.dtype.itemsize
        weights = self.flops_per_token / 2 * size / self.rows
        cache = 2 * c.num_layers * c.num_kv_heads * c.head_dim * size * self.context
        return weights + cache + 4 * c.vocab_size

    def roof(self, flops: float, bandwidth: float) -> float:
        """Tokens/s that counting allows: by the peak of large products, or by memory, whichever is less."""
        return 1 / max(self.flops_per_token / flops, self.bytes_per_token / bandwidth)

    def floors(self) -> list[float]:
        """Tokens/s if the matrix products alone took time, measured here and now: of each pass through all of them."""
        c = self.config
        heads = c.head_dim * (c.num_heads + 2 * c.num_kv_heads)
        shapes = [(heads, c.hidden_size), (c.hidden_size, c.num_heads * c.head_dim)]
        shapes += [(2 * c.intermediate_size, c.hidden_size), (c.hidden_size, c.intermediate_size)]
        weights = [torch.randn(shape).to(self.dtype) for _ in range(c.num_layers) for shape in shapes]
        weights.append(torch.randn(c.vocab_size, c.hidden_size).to(self.dtype))
        inputs = {width: torch.randn(self.rows, width).to(self.dtype) for width in {w.shape[1] for w in weights}}
        if self.trains:
            ways = [_seconds(lambda: _there_and_back(inputs, weights))]
        else:
            plain, laid_out = (F.linear, weights), (linear, [reordered(weight) for weight in weights])
            with torch.inference_mode():
                ways = [_seconds(lambda way=way: _there(inputs, *way)) for way in (plain, laid_out)]
        return [self.rows / self.rows_per_token / seconds for seconds in min(ways, key=statistics.median)]


def _there(inputs: dict[int, Tensor], product: Callable[[Tensor, Tensor], Tensor], weights: list[Tensor]) -> None:
    for weight in weights:
        product(inputs[weight.shape[1]], weight)


def _there_and_back(inputs: dict[int, Tensor], weights: list[Tensor]) -> None:
    for weight in weights:
        x = inputs[weight.shape[1]]
        y = x @ weight.T
        y @ weight
        y.T @ x


def _seconds(work: Callable[[], object]) -> list[float]:
    """Of several, the first left out."""
    seconds = []
    for _ in range(PASSES + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


LARGE = (1024, 2048, 4096)
"""Rows and columns of the products that a peak is looked for among; on a shared machine the best of them differs from
minute to minute."""


def peak(dtype: torch.dtype) -> float:
    """FLOP/s of large square matrix products on this process's threads: the fastest size, by the faster of the two
    libraries."""
    return max(_square(size, dtype) for size in LARGE)


def _square(size: int, dtype: torch.dtype) -> float:
    a = torch.randn(size, size).to(dtype)
    laid_out = reordered(a)
    with torch.inference_mode():
        return 2 * size**3 / min(_seconds(lambda: a @ a) + _seconds(lambda: linear(a, laid_out)))


def bandwidth(size: int = 1 << 28) -> float:
    """Bytes/s read from memory: the sum of an array that no cache holds (1 GiB)."""
    a = torch.ones(size, dtype=torch.float32)
    return a.nbytes / min(_seconds(a.sum))
