"""Precision, recall, entropies and divergences of a candidate q against a reference p; the sampler check.

With P = E_q[log p] and R = E_p[log q] (equations 3 and 4 of Cha & Cho, arXiv 2505.13111), in nats per draw:
KL(q||p) = -H(q) - P and KL(p||q) = -H(p) - R. Precision and recall are one function with its
arguments exchanged, and are always reported with both entropies and both divergences: a point mass on p's mode
has the highest precision there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float, Int

from distilscope.distribution import Distribution, Key
from distilscope.errors import GateError, UsageError
from distilscope.evaluation.control_variates import Mean
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.estimate import Estimate


@dataclass(frozen=True)
class PrecisionRecall:
    """Estimates in nats per draw, or in the unit that `per` was given."""

    precision: Estimate
    recall: Estimate
    candidate_entropy: Estimate
    reference_entropy: Estimate
    kl_candidate_reference: Estimate
    kl_reference_candidate: Estimate
    covariance: float = 0.0
    """Of precision and reference_entropy, whose draws may follow the same prompts; in the square of their unit."""

    @property
    def precision_gain(self) -> Estimate:
        """Delta P = P + H(p) = (H(p) - H(q)) - KL(q||p): what sharpening gains less what it costs in fidelity."""
        if self.precision.mean is None or self.reference_entropy.mean is None:
            return self.precision
        errors = (self.precision.stderr, self.reference_entropy.stderr)
        variance = (
            None if None in errors else sum(error**2 for error in errors if error is not None) + 2 * self.covariance
        )
        stderr = None if variance is None else math.sqrt(max(0.0, variance))  # rounding
        return Estimate(self.precision.mean + self.reference_entropy.mean, stderr, self.precision.n)

    @property
    def recall_gain(self) -> Estimate:
        """Delta R = R + H(p) = -KL(p||q), never above 0."""
        kl = self.kl_reference_candidate
        return kl if kl.mean is None else msgspec.structs.replace(kl, mean=-kl.mean)

    def per(self, constant: float) -> PrecisionRecall:
        """In another unit, such as nats per token: every estimate divided by one constant, so that students stay
        comparable."""
        return PrecisionRecall(
            *(getattr(self, name).scaled(constant) for name in ESTIMATES), covariance=self.covariance / constant**2
        )

    def quantities(self) -> dict[str, Any]:
        """Each `Estimate` by the name that records have for it."""
        return {name: getattr(self, name) for name in ESTIMATES} | {
            "delta_precision": self.precision_gain,
            "delta_recall": self.recall_gain,
        }

    def as_json(self) -> dict[str, Any]:
        return document_of(self.quantities())


ESTIMATES = tuple(field.name for field in fields(PrecisionRecall) if field.name != "covariance")


@dataclass(frozen=True)
class Scored:
    """The draws of one side: log-probabilities (nats) under the side that made them and under the other.

    The deviations are those of each sequence's log-probability from the sum of its step-by-step expectations: control
    variates with mean zero. `clusters` says which draws depend on each other: those after one prompt.
    """

    own: Float[np.ndarray, " n"]
    other: Float[np.ndarray, " n"]
    own_deviation: Float[np.ndarray, " n"] | None = None
    other_deviation: Float[np.ndarray, " n"] | None = None
    clusters: Int[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        for name in ("own", "other"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if np.isnan(values).any():
                raise GateError(
                    f"draw {int(np.isnan(values).argmax())} has a log-probability that is not a number; its model is "
                    "broken"
                )
            object.__setattr__(self, name, values)
        if not np.isfinite(self.own).all():
            at = int((~np.isfinite(self.own)).argmax())
            raise GateError(
                f"draw {at} has log-probability {self.own[at]} under the distribution that made it; sampling and "
                "scoring disagree"
            )

    @cached_property
    def mean(self) -> Mean:
        controls = [c for c in (self.own_deviation, self.other_deviation) if c is not None]
        return Mean(len(self.own), controls=controls, clusters=self.clusters)

    @property
    def entropy(self) -> Estimate:
        return self.mean.estimate(-self.own)

    @property
    def cross(self) -> Estimate:
        """E_own[log other]: precision for the candidate's draws, recall for the reference's."""
        return self.mean.estimate(self.other)

    @property
    def divergence(self) -> Estimate:
        """KL(own || other)."""
        return self.mean.estimate(self.own - self.other)

    @property
    def variance_ratio(self) -> float | None:
        """How many times as many draws plain Monte Carlo would need for the same standard error of the divergence."""
        plain = Mean(len(self.own), clusters=self.clusters).estimate(self.own - self.other)
        found = self.divergence
        return (plain.stderr / found.stderr) ** 2 if plain.stderr and found.stderr else None


def expectation(values: Float[np.ndarray, " n"], *, clusters: Int[np.ndarray, " n"] | None = None) -> Estimate:
    """Mean of one value per draw, nats, where there are no controls; `clusters` as in `Scored`."""
    return Mean(len(values), clusters=clusters).estimate(np.asarray(values, dtype=np.float64))


def compare(*, candidate: Scored, reference: Scored, one_space: bool = True) -> PrecisionRecall:
    """All six estimates from draws of both sides that are already scored.

    Raises GateError where a divergence is negative beyond chance: no distribution is likelier than another under its
    own draws. That holds where both are over `one_space`, the same set of draws; it need not where two tokenizers cut
    one text differently.
    """
    for name, side in (("KL(q||p)", candidate), ("KL(p||q)", reference)):
        found, scale = side.divergence, abs(side.own).mean()
        if one_space and found.mean is not None and found.stderr and found.mean < -4 * found.stderr - 1e-3 * scale:
            raise GateError(
                f"{name} comes out at {found}, but no divergence is negative; the draws and their scores do not "
                "belong to the same models"
            )
    return PrecisionRecall(
        precision=candidate.cross,
        recall=reference.cross,
        candidate_entropy=candidate.entropy,
        reference_entropy=reference.entropy,
        kl_candidate_reference=candidate.divergence,
        kl_reference_candidate=reference.divergence,
        covariance=_covariance(candidate, reference),
    )


def _covariance(candidate: Scored, reference: Scored) -> float:
    """Of precision and H(p): a prompt after which p is surer than elsewhere raises the one and lowers the other."""
    if candidate.clusters is None or reference.clusters is None or not np.isfinite(candidate.other).all():
        return 0.0
    prompts = np.unique(candidate.clusters)
    if len(prompts) == 1 or not np.array_equal(prompts, np.unique(reference.clusters)):
        return 0.0
    return float(candidate.mean.errors(candidate.other) @ reference.mean.errors(-reference.own))


def precision_recall(
    *, reference: Distribution[Any], candidate: Distribution[Any], n: int, key: Key
) -> PrecisionRecall:
    """Precision and recall in nats per draw, with standard errors: plain Monte Carlo over `n` draws of each side, of
    any two distributions over the same space.

    No gate stands before these numbers; `measure` has both, and control variates. Raises UsageError for fewer than 2
    draws.
    """
    if n < 2:
        raise UsageError(f"n is {n}, but a standard error needs at least 2 draws of each side")

    def scored(side: Distribution[Any], other: Distribution[Any], name: str) -> Scored:
        draws = side.sample(n, key.child(name))
        return Scored(side.log_prob(draws).numpy(force=True), other.log_prob(draws).numpy(force=True))

    return compare(
        candidate=scored(candidate, reference, "candidate"), reference=scored(reference, candidate, "reference")
    )
