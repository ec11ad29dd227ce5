"""The two gates before every number: draws scored again, and their log-probability against its own expectation."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from distilscope.errors import GateError

UNDECIDED_BELOW = 100.0
"""Total variance (nats^2) under which the sampler check cannot tell a wrong sampler from chance."""

Z_LIMIT = 4.0


def sampler_z(log_prob: float, expected: float, variance: float) -> float | str:
    """z of the draws' total log-probability against its own expectation, or "undecided".

    log_prob: sum over tokens of log q(x_t); expected: sum of E_v log q(v); variance: sum of Var_v log q(v), v ~
    q(.|x_<t). The deviations are martingale differences, so z is about N(0, 1) if and only if the draws follow that q.
    """
    if variance < UNDECIDED_BELOW:
        return "undecided"
    return (log_prob - expected) / math.sqrt(variance)


def require_sampler(z: float | str, whose: str) -> float | str:
    """The gate: passes z on, or raises GateError where |z| > 4."""
    if isinstance(z, float) and not abs(z) <= Z_LIMIT:
        raise GateError(
            f"the draws of {whose} do not follow the distribution that scores them (z = {z:.1f}, limit {Z_LIMIT:g}): "
            + ("too likely" if z > 0 else "too unlikely")
            + "; likely causes are another temperature, a hidden top-k or top-p, or another model"
        )
    return z


PAIRED_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.02}
"""Largest mean |difference|, in nats per token, between log q as recorded while drawing and as scored again.

Drawing runs one token at a time against a cache, scoring whole sequences: the same sums in another order. In float32
they differ by about 3e-6 nats per token on SmolLM2-135M, in bfloat16 by about 0.04.
"""

PAIRED_BIAS = {"float32": 1e-5, "bfloat16": 0.01, "float16": 1e-3}
"""Largest |mean difference|, in nats per token, beyond what chance explains (4 standard errors): rounding has no
direction."""

BORDER_TOKENS = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 1e-3}
"""Largest share of tokens (rounded up to whole tokens) that a truncated q may lose when its draws are scored again.

A token drawn at the edge of a top-k or top-p set can fall outside it by rounding alone: about 1 in 1300 in bfloat16.
Its log q is the recorded one; a hidden or forgotten truncation loses many more.
"""


def require_whole(possible: Bool[np.ndarray, " n"], whose: str) -> None:
    """The paired gate's first half: raises GateError where a draw is no sequence that its model can make."""
    if not possible.all():
        raise GateError(
            f"{(~possible).sum()} of {len(possible)} draws of {whose} (the first is draw {possible.argmin()}) neither "
            "end with a "
            "stopping token nor reach the horizon, or go on after either; likely causes are a stopping token that was "
            "dropped, or text "
            "that was tokenised again"
        )


def require_paired(
    recorded: Float[np.ndarray, " tokens"], rescored: Float[np.ndarray, " tokens"], dtype: str, whose: str
) -> None:
    """The gate: raises GateError where scoring the stored draws again does not give back what was recorded, token by
    token."""
    if len(recorded) != len(rescored):
        raise GateError(
            f"the draws of {whose} have {len(recorded)} tokens as recorded, but {len(rescored)} to be scored; "
            "likely causes are a stopping token that was dropped or added, or text that was tokenised again"
        )
    lost = np.isneginf(rescored)
    if lost.sum() > math.ceil(BORDER_TOKENS[dtype] * len(lost)):
        raise GateError(
            f"{lost.sum()} of {len(lost)} tokens in the draws of {whose} (the first is token {lost.argmax()}) have "
            "probability zero when "
            "they are scored again; they were drawn with another truncation (top-k, top-p or min-p), or the tokens "
            "were changed"
        )
    differences = recorded[~lost].astype(np.float64) - rescored[~lost]
    size, bias = float(np.abs(differences).mean()), float(abs(differences.mean()))
    chance = 4 * float(differences.std()) / math.sqrt(len(differences))
    if not (size <= PAIRED_TOLERANCE[dtype] and bias <= PAIRED_BIAS[dtype] + chance):
        raise GateError(
            f"scoring the draws of {whose} again differs by {size:.2g} nats per token from what was recorded, "
            f"{bias:.2g} of it in one direction "
            f"(limits {PAIRED_TOLERANCE[dtype]:g} and {PAIRED_BIAS[dtype]:g} in {dtype}); "
            "likely causes are another model, dtype, temperature or truncation, or tokens that were changed, as by "
            "tokenising text again"
        )


class Gates:
    """Both gates over the draws of one side, which may come tile by tile: the paired one for each tile, z over all of
    them."""

    def __init__(self, *, dtype: str, whose: str) -> None:
        self.dtype, self.whose = dtype, whose
        self._sums = np.zeros(3)

    def admit(
        self,
        recorded: Float[np.ndarray, " tokens"],
        *,
        rescored: Float[np.ndarray, " tokens"],
        expected: Float[np.ndarray, " tokens"],
        variance: Float[np.ndarray, " tokens"],
    ) -> None:
        """Raises GateError where scoring these draws again does not give back what was recorded."""
        require_paired(recorded, rescored, self.dtype, self.whose)
        self._sums += [np.sum(values, dtype=np.float64) for values in (recorded, expected, variance)]

    def z(self) -> float | str:
        """z of all draws admitted, or "undecided"; raises GateError where it is beyond the limit."""
        return require_sampler(sampler_z(*self._sums.tolist()), self.whose)


def check_draws(
    recorded: Float[np.ndarray, " tokens"],
    *,
    rescored: Float[np.ndarray, " tokens"],
    expected: Float[np.ndarray, " tokens"],
    variance: Float[np.ndarray, " tokens"],
    dtype: str,
    whose: str,
) -> float | str:
    """Both gates over a whole set of draws, token by token: z or "undecided"; GateError where either does not pass."""
    gates = Gates(dtype=dtype, whose=whose)
    gates.admit(recorded, rescored=rescored, expected=expected, variance=variance)
    return gates.z()
