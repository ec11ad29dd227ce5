"""Maximum likelihood by expectation maximisation (EM) for many Gaussian mixtures at once.

Small fits spend more time in calls than in arithmetic, so each step is taken for a whole batch of problems of one
shape. The log-density of a Gaussian is linear in the features [1, x, x^2] (diagonal covariance) or [1, x, x x'] (full),
so both halves of an EM step are batched matrix products with the same features. Problems leave the batch as they
converge. The starts are k-means++ and Lloyd's algorithm (Arthur and Vassilvitskii 2007), as in scikit-learn, to
which the tests compare the fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distilscope.distribution import Key
from distilscope.errors import UsageError, unknown_name
from distilscope.mixtures.gaussian_mixture import Covariance, GaussianMixture
from distilscope.system.thread_pool import map_in_threads

REG_COVAR = 1e-6
"""Added to every variance in each M-step (scikit-learn's default), so that no component can collapse onto a point."""

_BATCH_NUMBERS = 1 << 19
"""Numbers (problems x points x components) in one batch. Much less costs more in calls; much more exceeds the cache."""

_DROP_BELOW = 0.8
"""Share of unfinished problems below which the finished ones are dropped: the copy costs about as much as a step."""

_LLOYD_STEPS = 300

_SMALLEST = 10 * torch.finfo(torch.float64).eps
"""Added to a component's number of points (as scikit-learn does), so that an empty one divides by something."""


@dataclass(frozen=True)
class Fit:
    """A fitted mixture and the record of its fit. `warnings` is empty if all went well."""

    mixture: GaussianMixture
    log_likelihood: float
    """Mean over the points it was fitted on, in nats per draw."""
    iterations: int
    converged: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fits:
    """Many fits of one shape."""

    weights: Float[Tensor, "b k"]
    means: Float[Tensor, "b k d"]
    covariances: Float[Tensor, "b k d"] | Float[Tensor, "b k d d"]
    log_likelihood: Float[Tensor, " b"]
    """Mean over each problem's points, in nats per draw."""
    iterations: Int[Tensor, " b"]
    converged: Bool[Tensor, " b"]
    distinct: Int[Tensor, " b"]
    """Number of distinct points of a problem, at most its number of components."""

    def __len__(self) -> int:
        return len(self.log_likelihood)

    def __getitem__(self, index: int) -> Fit:
        warnings = []
        if not self.converged[index]:
            warnings.append(
                f"EM did not converge within {int(self.iterations[index])} steps; allow more, or a larger tolerance"
            )
        if self.distinct[index] < self.weights.shape[1]:
            warnings.append(f"only {int(self.distinct[index])} distinct points for {self.weights.shape[1]} components")
        mixture = GaussianMixture.of(
            weights=self.weights[index], means=self.means[index], covariances=self.covariances[index]
        )
        return Fit(
            mixture,
            float(self.log_likelihood[index]),
            int(self.iterations[index]),
            bool(self.converged[index]),
            tuple(warnings),
        )


def fit(points: Float[Tensor, "n d"], *, components: int, key: Key, **options: object) -> Fit:
    """`fit_many` for one set of points."""
    if points.ndim != 2:
        raise UsageError(f"points of shape {tuple(points.shape)} cannot be fitted; they must be (n, d) and all finite")
    return fit_many(points[None], components=components, key=key, **options)[0]  # type: ignore[arg-type]


def fit_many(
    points: Float[Tensor, "b n d"],
    *,
    components: int,
    key: Key | Sequence[Key],
    covariance: Covariance = "diag",
    n_init: int = 1,
    max_iter: int = 1000,
    tolerance: float = 1e-3,
    reg_covar: float = REG_COVAR,
) -> Fits:
    """Fit a mixture of `components` Gaussians to each problem's points: the likeliest of `n_init` starts of EM.

    The starts depend on the key alone; with a key for each problem, the fit of each is as if it were fitted alone. EM
    stops when a step gains less than `tolerance` nats per draw, or after `max_iter` steps (then `converged` is False).
    Raises UsageError on unusable points or more components than points.
    """
    if covariance not in ("diag", "full"):
        raise unknown_name("covariance", covariance, ("diag", "full"))
    if components < 1:
        raise UsageError(f"the number of components is {components}, but must be at least 1")
    if points.ndim != 3 or not bool(points.isfinite().all()):
        raise UsageError(
            f"points of shape {tuple(points.shape)} cannot be fitted; they must be (problems, n, d) and all finite"
        )
    problems, n, _ = points.shape
    if components > n:
        raise UsageError(f"{components} components cannot be fitted to {n} points; use more points or fewer components")
    if isinstance(key, Key):
        starts = key.generator().random((problems, n_init, components))
    else:
        starts = np.concatenate([one.generator().random((1, n_init, components)) for one in key])
    uniforms = torch.from_numpy(starts)
    points = points.to(torch.float64)
    rows = max(1, _BATCH_NUMBERS // (n * components * n_init))

    def fitted(part: tuple[Tensor, Tensor]) -> Fits:
        return _fit_together(*part, covariance=covariance, max_iter=max_iter, tolerance=tolerance, reg_covar=reg_covar)

    parts = list(zip(points.split(rows), uniforms.split(rows), strict=True))
    # One thread for each part: the arrays are too small for torch to split between threads.
    done = list(map_in_threads(fitted, parts, min(len(parts), torch.get_num_threads())))
    return Fits(*(torch.cat([getattr(part, field.name) for part in done]) for field in fields(Fits)))


def _fit_together(
    points: Float[Tensor, "b n d"],
    uniforms: Float[Tensor, "b s k"],
    *,
    covariance: Covariance,
    max_iter: int,
    tolerance: float,
    reg_covar: float,
) -> Fits:
    """Fit all problems and starts in one batch and keep the likeliest start of each.

    The points are centred first, so that their squares stay small.
    """
    problems, starts, components = uniforms.shape
    centre = points.mean(1, keepdim=True)
    axes = (points - centre).mT.repeat_interleave(starts, 0).contiguous()
    start, distinct = _k_means(axes, uniforms.reshape(-1, components))
    found = _EM(axes, covariance, reg_covar).run(start, max_iter, tolerance)
    best = found.log_likelihood.view(-1, starts).argmax(1) + torch.arange(problems) * starts
    chosen = {field.name: getattr(found, field.name)[best] for field in fields(Fits)}
    return Fits(**(chosen | {"means": chosen["means"] + centre, "distinct": distinct[best]}))


class _EM:
    """Both steps of EM for a batch of problems, in the features that both are linear in."""

    def __init__(self, axes: Float[Tensor, "b d n"], covariance: Covariance, reg_covar: float) -> None:
        self.dimension, self.full, self.reg_covar = axes.shape[1], covariance == "full", reg_covar
        squares = (axes[:, :, None] * axes[:, None]).flatten(1, 2) if self.full else axes.square()
        self.features = torch.cat([torch.ones_like(axes[:, :1]), axes, squares], 1)

    def run(self, start: Float[Tensor, "b k n"], max_iter: int, tolerance: float) -> Fits:
        """Iterate from responsibilities to the fitted mixtures; each problem stops at its own step."""
        problems, components, _ = start.shape
        shape = (self.dimension, self.dimension) if self.full else (self.dimension,)
        found = Fits(
            start.new_zeros(problems, components),
            start.new_zeros(problems, components, self.dimension),
            start.new_zeros(problems, components, *shape),
            start.new_full((problems,), -math.inf),
            torch.zeros(problems, dtype=torch.int64),
            torch.zeros(problems, dtype=torch.bool),
            torch.zeros(problems, dtype=torch.int64),
        )
        active, features = torch.arange(problems), self.features
        weights, means, covariances = self._maximise(features, start)
        before = start.new_full((problems,), -math.inf)
        ended = just_ended = torch.zeros(problems, dtype=torch.bool)
        for step in range(1, max_iter + 2):
            bound, responsibilities = self._expect(features, weights, means, covariances)
            if just_ended.any():
                found.log_likelihood[active[just_ended]] = bound[just_ended]
                live = ~ended
                left = int(live.sum())
                if not left:
                    break
                # Finished problems stay in the batch, ignored, until enough of them can be dropped at once.
                if left <= _DROP_BELOW * len(live):
                    active, features, responsibilities = active[live], features[live], responsibilities[live]
                    bound, before, ended = bound[live], before[live], ended[live]
            weights, means, covariances = self._maximise(features, responsibilities)
            stops = (bound - before).abs() < tolerance
            before = bound
            just_ended = ~ended if step == max_iter else stops & ~ended
            if just_ended.any():
                at = active[just_ended]
                found.weights[at], found.means[at], found.covariances[at] = (
                    weights[just_ended],
                    means[just_ended],
                    covariances[just_ended],
                )
                found.iterations[at], found.converged[at] = step, stops[just_ended]
                ended = ended | just_ended
        return found

    def _expect(
        self, features: Float[Tensor, "b f n"], weights: Tensor, means: Tensor, covariances: Tensor
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b k n"]]:
        """Mean log-likelihood and each component's responsibility for each point."""
        if self.full:
            factors = torch.linalg.cholesky(covariances)
            precisions = torch.cholesky_inverse(factors)
            linear = (precisions @ means[..., None])[..., 0]
            log_det = 2 * factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            quadratic = precisions.flatten(2)
        else:
            quadratic = 1 / covariances
            linear, log_det = quadratic * means, covariances.log().sum(-1)
        constant = weights.log() - 0.5 * (self.dimension * math.log(2 * math.pi) + log_det + (linear * means).sum(-1))
        coefficients = torch.cat([constant[..., None], linear, -0.5 * quadratic], -1)
        joint = coefficients @ features
        highest = joint.amax(1, keepdim=True)
        joint.sub_(highest).exp_()
        total = joint.sum(1, keepdim=True)
        return (highest + total.log()).mean((1, 2)), joint.div_(total)

    def _maximise(
        self, features: Float[Tensor, "b f n"], responsibilities: Float[Tensor, "b k n"]
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k d"], Tensor]:
        """Weights, means and covariances of the highest likelihood, given the responsibilities."""
        sums = responsibilities @ features.mT
        number = sums[..., :1] + _SMALLEST
        means, squares = sums[..., 1 : 1 + self.dimension] / number, sums[..., 1 + self.dimension :] / number
        weights = number[..., 0] / number.sum((1, 2))[:, None]
        if not self.full:
            return weights, means, (squares - means.square()).clamp_(min=0) + self.reg_covar
        matrices = squares.unflatten(-1, (self.dimension, self.dimension)) - means[..., :, None] * means[..., None, :]
        return weights, means, matrices + self.reg_covar * torch.eye(self.dimension, dtype=matrices.dtype)


def _k_means(
    axes: Float[Tensor, "b d n"], uniforms: Float[Tensor, "b k"]
) -> tuple[Float[Tensor, "b k n"], Int[Tensor, " b"]]:
    """Hard assignments, as responsibilities, and how many distinct centres were found (at most k).

    k-means++: each next centre is a point drawn with probability proportional to its squared distance to the nearest
    centre so far. A cluster that loses all its points keeps its centre.
    """
    problems, _, n = axes.shape
    batch = torch.arange(problems)
    centres = [axes[batch, :, (uniforms[:, 0] * n).long().clamp_(max=n - 1)]]
    nearest = (axes - centres[0][..., None]).square_().sum(1)
    distinct = torch.ones(problems, dtype=torch.int64)
    for chance in uniforms.T[1:]:
        reach = nearest.cumsum(1)
        distinct += reach[:, -1] > 0
        chosen = torch.searchsorted(reach, (chance * reach[:, -1])[:, None], right=True)[:, 0].clamp_(max=n - 1)
        centres.append(axes[batch, :, chosen])
        nearest = torch.minimum(nearest, (axes - centres[-1][..., None]).square_().sum(1))
    return _lloyd(axes, torch.stack(centres, 1)), distinct


def _lloyd(axes: Float[Tensor, "b d n"], centres: Float[Tensor, "b k d"]) -> Float[Tensor, "b k n"]:
    """Assign points to their nearest centre and move centres to the mean of their points, until nothing changes."""
    found = axes.new_empty(*centres.shape[:2], axes.shape[-1])
    active, before = torch.arange(len(axes)), torch.zeros(0)
    for _ in range(_LLOYD_STEPS):
        members = _nearest(axes, centres)
        if len(before):
            moves = (members != before).flatten(1).any(1)
            found[active[~moves]] = members[~moves]
            if not moves.all():
                active, axes, centres, members = active[moves], axes[moves], centres[moves], members[moves]
            if not len(active):
                return found
        before = members
        number = members.sum(-1, keepdim=True)
        centres = torch.where(number > 0, members @ axes.mT / number.clamp(min=1), centres)
    found[active] = before
    return found


def _nearest(axes: Float[Tensor, "b d n"], centres: Float[Tensor, "b k d"]) -> Float[Tensor, "b k n"]:
    """1 for the nearest centre of each point (the first of several), 0 for the others."""
    # |x - c|^2 without |x|^2, which is the same for every centre
    distance = torch.baddbmm(centres.square().sum(-1)[..., None], centres, axes, alpha=-2)
    members = (distance <= distance.amin(1, keepdim=True)).to(distance.dtype)
    return members if members.sum() == members[:, 0].numel() else members * (members.cumsum(1) == 1)
