"""Selectivity: the operations that make a categorical choice sharper, as maps from logits to logits.

A mixture's log-weights and a language model's next-token logits meet the same code, so that the
paper's beta (equation 2 of Cha & Cho, arXiv 2505.13111) and a sampling temperature tau = 1/beta are one
operation, `log_softmax(beta * logits)`. On a language model it acts token by token; that is not
p^beta renormalised over whole sequences.

The module loads no torch, since a configuration is checked with it: operations are the logits' own methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from distilscope.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Selectivity(Protocol):
    """Maps logits to logits over the last axis; a removed choice gets -inf, at least one is kept."""

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]: ...


def _number(name: str, value: float, *, most: float, rule: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
        raise UsageError(f"{name} is {value!r}, but must be {rule}")
    return float(value)


_LARGEST_FACTOR = 1e30
"""A larger beta would overflow fp32 logits, where its result is the argmax limit."""


@dataclass(frozen=True)
class Power:
    """p^beta, renormalised. beta = inf is the argmax limit; choices that tie share it evenly."""

    beta: float

    def __post_init__(self) -> None:
        _number(
            "beta", self.beta, most=math.inf, rule="a number above 0 (inf is the argmax limit); use 1 to change nothing"
        )

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
        if self.beta > _LARGEST_FACTOR:
            best = logits == logits.amax(-1, keepdim=True)
            return logits.new_zeros(logits.shape).masked_fill(~best, -math.inf)
        return logits if self.beta == 1 else logits * self.beta


@dataclass(frozen=True)
class Temperature:
    """Sampling temperature: `Power(1 / tau)`."""

    tau: float

    def __post_init__(self) -> None:
        _number("temperature", self.tau, most=1e30, rule="a finite number above 0; use 1 to change nothing")

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
        return Power(1 / self.tau)(logits)


@dataclass(frozen=True)
class TopK:
    """Keeps the k likeliest choices (and any that tie with the last of them)."""

    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise UsageError(
                f"top-k is {self.k!r}, but must be a whole number of at least 1; leave it out to keep every token"
            )

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
        if self.k >= logits.shape[-1]:
            return logits
        last_kept = logits.topk(self.k, dim=-1).values[..., -1:]
        return logits.masked_fill(logits < last_kept, -math.inf)


@dataclass(frozen=True)
class TopP:
    """Keeps the smallest set of likeliest choices whose probabilities reach p."""

    p: float

    def __post_init__(self) -> None:
        _number("top-p", self.p, most=1.0, rule="above 0 and at most 1; 1 keeps every token")

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
        if self.p == 1:
            return logits
        probs, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = probs.cumsum(-1) - probs
        keep = (before < self.p).scatter(-1, order.new_zeros(order[..., :1].shape), True)
        return logits.masked_fill(~keep.new_zeros(keep.shape).scatter(-1, order, keep), -math.inf)


@dataclass(frozen=True)
class MinP:
    """Keeps the choices whose probability is at least p times the likeliest one's."""

    p: float

    def __post_init__(self) -> None:
        _number("min-p", self.p, most=1.0, rule="above 0 and at most 1; leave it out to keep every token")

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
        return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(self.p), -math.inf)


@dataclass(frozen=True)
class Chain:
    """Several selectivities, applied in order."""

    parts: tuple[Selectivity, ...]

    def __call__(self, logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
        for part in self.parts:
            logits = part(logits)
        return logits


UNCHANGED = Temperature(1.0)


def from_parameters(sampling: Mapping[str, float | int | None]) -> Selectivity:
    """The selectivity that sampling options mean together: temperature, then top-k, top-p, min-p.

    The order is that of Hugging Face's and vLLM's samplers. A parameter that is None is left out.
    """
    makers = {"temperature": Temperature, "top_k": TopK, "top_p": TopP, "min_p": MinP}
    for name in sampling:
        if name not in makers:
            raise unknown_name("selectivity", name, makers)
    parts = tuple(make(sampling[name]) for name, make in makers.items() if sampling.get(name) is not None)
    return parts[0] if len(parts) == 1 else Chain(parts) if parts else UNCHANGED
