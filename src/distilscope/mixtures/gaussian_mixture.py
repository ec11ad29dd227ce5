"""Gaussian mixtures as distributions; selectivity acts on their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.selectivity import Selectivity

Covariance = Literal["diag", "full"]

_CONDITION = 1e13
"""Largest condition number of a full covariance; beyond it, the covariance counts as singular in float64."""

_CHUNK = 1 << 21
"""Numbers that `log_prob` holds at once, which bounds its memory."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """p(x) = sum_k alpha_k N(x; mu_k, Sigma_k) in any dimension d, in float64 (equation 1 of Cha & Cho, arXiv
    2505.13111).

    `log_weights` are in nats and may be -inf (a component that selectivity removed). `covariances` of shape (k, d)
    are the diagonals of diagonal matrices; of shape (k, d, d), full matrices. `GaussianMixture.of` takes weights and
    any array-likes. Raises UsageError where the weights do not sum to 1, shapes disagree or a covariance is not
    positive definite.
    """

    log_weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d"] | Float[Tensor, "k d d"]

    def __post_init__(self) -> None:
        for name in ("log_weights", "means", "covariances"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64).detach().clone())
        _check_shapes(self.log_weights, self.means, self.covariances)
        total = float(self.log_weights.exp().sum())
        if not abs(total - 1) <= 1e-6:
            raise UsageError(f"the weights sum to {total:g}, but must sum to 1; divide each of them by their sum")
        object.__setattr__(self, "log_weights", self.log_weights.log_softmax(-1))
        _check_positive_definite(self.covariances)

    @classmethod
    def of(cls, *, weights: Any, means: Any, covariances: Any) -> GaussianMixture:
        """Make a mixture from weights (k,), means (k, d) and covariances (k, d) or (k, d, d), of any array type."""
        alpha = torch.as_tensor(weights, dtype=torch.float64)
        if not bool((alpha >= 0).all()):
            at = int((~(alpha >= 0)).to(torch.int).argmax())
            raise UsageError(
                f"weight {at} is {float(alpha.reshape(-1)[at]):g}, but must be at least 0; a component may also be "
                "left out"
            )
        as_double = [torch.as_tensor(value, dtype=torch.float64) for value in (means, covariances)]
        return cls(alpha.log(), *as_double)

    @property
    def weights(self) -> Float[Tensor, " k"]:
        return self.log_weights.exp()

    @property
    def num_components(self) -> int:
        return self.means.shape[0]

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    @property
    def is_diagonal(self) -> bool:
        return self.covariances.ndim == 2

    @property
    def full_covariances(self) -> Float[Tensor, "k d d"]:
        return torch.diag_embed(self.covariances) if self.is_diagonal else self.covariances

    @property
    def weight_entropy(self) -> float:
        """H(alpha) in nats, with 0 log 0 = 0: the entropy that selectivity lowers."""
        return float(torch.special.entr(self.weights).sum())

    @cached_property
    def factors(self) -> Float[Tensor, "k d d"]:
        """L_k with L_k L_k' = Sigma_k, lower triangular."""
        return (
            torch.diag_embed(self.covariances.sqrt()) if self.is_diagonal else torch.linalg.cholesky(self.covariances)
        )

    @cached_property
    def whiteners(self) -> Float[Tensor, "k d d"]:
        """The inverses of the factors: they take component k to N(0, I)."""
        eye = torch.eye(self.dimension, dtype=torch.float64).expand_as(self.factors)
        return torch.linalg.solve_triangular(self.factors, eye, upper=False)

    @cached_property
    def _log_scales(self) -> Float[Tensor, " k"]:
        """log alpha_k minus the log-normaliser of component k."""
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return self.log_weights - log_det - 0.5 * self.dimension * math.log(2 * math.pi)

    def _joint_log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "k n"]:
        """log alpha_k N(x; mu_k, Sigma_k), in nats. Components are the first axis: sums along long rows are five times
        as fast."""
        if x.ndim != 2 or x.shape[1] != self.dimension:
            raise UsageError(
                f"points of shape {tuple(x.shape)} cannot be scored by a mixture in {self.dimension} dimension(s);"
                f" give them the shape (n, {self.dimension})"
            )
        away = [axis - self.means[:, i, None] for i, axis in enumerate(x.to(torch.float64).T)]
        distance = away[0].new_zeros(self.num_components, len(x))
        if self.is_diagonal:
            for along, precision in zip(away, self.covariances.reciprocal().T[:, :, None], strict=True):
                distance.addcmul_(along.square_(), precision)
        else:
            for i in reversed(range(self.dimension)):  # each row is the last to need its axis
                row = self.whiteners[:, i, :, None]
                whitened = away[i].mul_(row[:, i])
                for j in range(i):
                    whitened.addcmul_(away[j], row[:, j])
                distance.addcmul_(whitened, whitened)
        return torch.sub(self._log_scales[:, None], distance, alpha=0.5)

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Log-density of each point, in nats."""
        rows = max(1, _CHUNK // (self.num_components * self.dimension))
        return torch.cat([self._joint_log_prob(part).logsumexp(0) for part in x.split(rows)])

    def sample(self, n: int, key: Key) -> Float[Tensor, "n d"]:
        """`n` independent draws, a function of the key alone."""
        if n < 1:
            raise UsageError(f"the number of draws is {n}, but must be at least 1")
        generator = key.generator()
        alpha = self.weights.numpy()
        component = torch.from_numpy(generator.choice(self.num_components, size=n, p=alpha / alpha.sum()))
        noise = torch.from_numpy(generator.standard_normal((n, self.dimension)))
        if self.is_diagonal:
            return self.means[component] + self.covariances.sqrt()[component] * noise
        return self.means[component] + torch.einsum("nij,nj->ni", self.factors[component], noise)

    def select(self, by: Selectivity) -> GaussianMixture:
        """alpha(beta) = softmax(by(log alpha)), equation 2 of the paper for `Power(beta)`; the components stay as they
        are."""
        return replace(self, log_weights=by(self.log_weights).log_softmax(-1))

    def most_responsible(self, x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The component with the highest posterior probability at each point."""
        return self._joint_log_prob(x).argmax(0)

    def moments(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance of the whole mixture."""
        mean = (self.weights[:, None] * self.means).sum(0)
        away = self.means - mean
        within = (self.weights[:, None, None] * self.full_covariances).sum(0)
        return mean, within + (self.weights[:, None, None] * away[:, :, None] * away[:, None, :]).sum(0)

    def as_json(self) -> dict[str, Any]:
        """Plain lists: weights (k), means (k, d), covariances (k, d, d)."""
        return {
            "weights": self.weights.tolist(),
            "means": self.means.tolist(),
            "covariances": self.full_covariances.tolist(),
        }


def _check_shapes(log_weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    if means.ndim != 2 or 0 in means.shape:
        raise UsageError(
            f"the means have shape {tuple(means.shape)}, but must be (components, dimension), with at least one of each"
        )
    k, d = means.shape
    if tuple(log_weights.shape) != (k,):
        raise UsageError(
            f"the weights have shape {tuple(log_weights.shape)}, but {k} means need ({k},); give one weight per "
            "component"
        )
    if tuple(covariances.shape) not in ((k, d), (k, d, d)):
        raise UsageError(
            f"the covariances have shape {tuple(covariances.shape)}, but {k} means in {d} dimension(s) need"
            f" ({k}, {d}) for diagonals or ({k}, {d}, {d}) for full matrices"
        )
    for name, values in (("mean", means), ("covariance", covariances)):
        broken = ~values.isfinite().reshape(k, -1).all(-1)
        if broken.any():
            raise UsageError(
                f"{name} {int(broken.to(torch.int).argmax())} is not finite; every entry must be a finite number"
            )


def _check_positive_definite(covariances: Tensor) -> None:
    if covariances.ndim == 3:
        skew = (covariances - covariances.mT).abs().amax((-1, -2)) > 1e-9 * covariances.abs().amax((-1, -2))
        if skew.any():
            at = int(skew.to(torch.int).argmax())
            raise UsageError(
                f"covariance {at} is not symmetric; replace it by half the sum of itself and its transpose"
            )
        spectrum = torch.linalg.eigvalsh(covariances)
    else:
        spectrum = covariances.sort(-1).values
    floor = spectrum[:, -1].clamp(min=np.finfo(np.float64).tiny) / (_CONDITION if covariances.ndim == 3 else math.inf)
    singular = ~(spectrum[:, 0] > floor)
    if singular.any():
        at = int(singular.to(torch.int).argmax())
        raise UsageError(
            f"covariance {at} has smallest eigenvalue {float(spectrum[at, 0]):.3g}, but must be positive definite;"
            " add a small multiple of the identity, or drop the axes along which nothing varies"
        )
