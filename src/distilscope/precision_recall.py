"""Precision, recall, entropies and divergences of a candidate q against a reference p; the sampler check.

With P = E_q[log p] and R = E_p[log q] (equations 3 and 4 of Cha & Cho, arXiv 2505.13111), in nats per draw:
KL(q||p) = -H(q) - P and KL(p||q) = -H(p) - R. Precision and recall are one function with its
arguments exchanged, and are always reported with both entropies and both divergences: a point mass on p's mode
has the highest precision there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.distribution import Distribution, Key
from distilscope.errors import GateError, UsageError
from distilscope.estimate import Estimate


@dataclass(frozen=True)
class PrecisionRecall:
    """Six estimates, in nats per draw."""

    precision: Estimate
    recall: Estimate
    candidate_entropy: Estimate
    reference_entropy: Estimate
    kl_candidate_reference: Estimate
    kl_reference_candidate: Estimate

    def as_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name).as_json() for field in fields(self)}


@dataclass(frozen=True)
class Scored:
    """The draws of one side: log-probabilities (nats) under the side that made them and under the other."""

    own: Float[np.ndarray, " n"]
    other: Float[np.ndarray, " n"]

    def __post_init__(self) -> None:
        for name in ("own", "other"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if np.isnan(values).any():
                raise GateError(f"draw {int(np.isnan(values).argmax())} has a log-probability that is not a number; its model is broken")
            object.__setattr__(self, name, values)
        if not np.isfinite(self.own).all():
            at = int((~np.isfinite(self.own)).argmax())
            raise GateError(
                f"draw {at} has log-probability {self.own[at]} under the distribution that made it; sampling and scoring disagree"
            )

    @property
    def entropy(self) -> Estimate:
        return Estimate.of(-self.own)

    @property
    def cross(self) -> Estimate:
        """E_own[log other]: precision for the candidate's draws, recall for the reference's."""
        return Estimate.of(self.other)

    @property
    def divergence(self) -> Estimate:
        """KL(own || other)."""
        return Estimate.of(self.own - self.other)


def compare(*, candidate: Scored, reference: Scored) -> PrecisionRecall:
    """All six estimates from draws of both sides that are already scored."""
    return PrecisionRecall(
        precision=candidate.cross,
        recall=reference.cross,
        candidate_entropy=candidate.entropy,
        reference_entropy=reference.entropy,
        kl_candidate_reference=candidate.divergence,
        kl_reference_candidate=reference.divergence,
    )


def precision_recall(*, reference: Distribution[Any], candidate: Distribution[Any], n: int, key: Key) -> PrecisionRecall:
    """Monte Carlo over `n` draws of each side: any two distributions over the same space."""
    if n < 2:
        raise UsageError(f"n is {n}, but a standard error needs at least 2 draws of each side")

    def scored(side: Distribution[Any], other: Distribution[Any], name: str) -> Scored:
        draws = side.sample(n, key.child(name))
        return Scored(side.log_prob(draws).numpy(force=True), other.log_prob(draws).numpy(force=True))

    return compare(candidate=scored(candidate, reference, "candidate"), reference=scored(reference, candidate, "reference"))


UNDECIDED_BELOW = 100.0
"""Total variance (nats^2) under which the sampler check cannot tell a wrong sampler from chance."""

Z_LIMIT = 4.0


def sampler_z(log_prob: float, expected: float, variance: float) -> float | str:
    """z of the draws' total log-probability against its own expectation, or "undecided".

    log_prob: sum over tokens of log q(x_t); expected: sum of E_v log q(v); variance: sum of Var_v log q(v), v ~ q(.|x_<t).
    The deviations are martingale differences, so z is about N(0, 1) if and only if the draws follow that q.
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

Drawing runs one token at a time against a cache, scoring whole sequences: the same sums in another order. In float32 they
differ by about 3e-6 nats per token on SmolLM2-135M, in bfloat16 by about 0.04.
"""


def require_paired(recorded: Float[np.ndarray, " tokens"], rescored: Float[np.ndarray, " tokens"], dtype: str, whose: str) -> None:
    """The gate: raises GateError where scoring the stored draws again does not give back what was recorded, token by token."""
    if len(recorded) != len(rescored):
        raise GateError(
            f"the draws of {whose} have {len(recorded)} tokens, but {len(rescored)} were scored; "
            "a stopping token was dropped or text was tokenised again"
        )
    difference = float(np.abs(recorded.astype(np.float64) - rescored).mean())
    if not difference <= PAIRED_TOLERANCE[dtype]:
        raise GateError(
            f"scoring the draws of {whose} again differs by {difference:.2g} nats per token from what was recorded "
            f"(limit {PAIRED_TOLERANCE[dtype]:g} in {dtype}); likely causes are another dtype, temperature or truncation, or changed tokens"
        )


def check_draws(
    recorded: Float[np.ndarray, " tokens"],
    *,
    rescored: Float[np.ndarray, " tokens"],
    expected: Float[np.ndarray, " tokens"],
    variance: Float[np.ndarray, " tokens"],
    dtype: str,
    whose: str,
) -> float | str:
    """Both gates over a set of draws, token by token: z or "undecided"; GateError where either does not pass."""
    require_paired(recorded, rescored, dtype, whose)
    sums = (float(np.sum(values, dtype=np.float64)) for values in (recorded, expected, variance))
    return require_sampler(sampler_z(*sums), whose)
