"""Precision, recall, entropies and divergences of a candidate q against a reference p; the sampler check.

With P = E_q[log p] and R = E_p[log q] (equations 3 and 4 of Cha & Cho, arXiv 2505.13111), in nats per draw:
KL(q||p) = -H(q) - P and KL(p||q) = -H(p) - R. Precision and recall are one function with its
arguments exchanged, and are always reported with both entropies and both divergences: a point mass on p's mode
has the highest precision there is.
"""

from __future__ import annotations

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
    """All six estimates from draws of both sides that are already scored.

    Raises GateError where a divergence is negative beyond chance: no distribution is likelier than another under its own draws.
    """
    for name, side in (("KL(q||p)", candidate), ("KL(p||q)", reference)):
        found, scale = side.divergence, abs(side.own).mean()
        if found.mean is not None and found.stderr and found.mean < -4 * found.stderr - 1e-3 * scale:
            raise GateError(
                f"{name} comes out at {found}, but no divergence is negative; the draws and their scores do not belong to the same models"
            )
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
