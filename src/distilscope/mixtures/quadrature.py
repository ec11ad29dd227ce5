"""Exact precision, recall, entropies and divergences of mixtures in one or two dimensions, by adaptive quadrature.

E_q[log p] = sum_j alpha_j E_z[log p(mu_j + L_j z)], z ~ N(0, I). Each component of q has its own whitened coordinates,
so q may be arbitrarily narrow. Where p is one Gaussian, log p is quadratic, and q's moments give the mean exactly. The
log of a mixture is nearly quadratic except where two components meet and around narrow components; cells there are
halved until the error bound is met.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int

from distilscope.errors import GateError, UsageError
from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.precision_recall import PrecisionRecall
from distilscope.mixtures.gaussian_mixture import GaussianMixture

RELATIVE = 1e-8
ABSOLUTE = 1e-6
"""Tolerances of an expectation, in nats per draw: the larger of the two applies."""

_REACH = 8.0
"""Standard deviations of q covered on each axis; z^2 beyond them weighs 1e-13 of E[z^2]."""
_NEGLIGIBLE = -25.0
"""Log of the density, times its component's weight, below which a cell is not searched for narrow components."""
_ORDER = 6
"""Gauss-Legendre points per axis in each cell."""
_CHUNK = 1 << 16
"""Points scored at once."""
_MOST_CELLS = 1 << 19
"""Cells beyond which quadrature gives up with a GateError."""


@dataclass(frozen=True)
class Integral:
    """A value and a bound on its error, in nats per draw.

    The bound adds up |cell - its halves| over the last accepted cells: the error of the rule *before* the last halving.
    """

    value: float
    error: float


@dataclass(frozen=True)
class _Cells:
    """Squares (intervals in 1-D) in the whitened coordinates of a component of q."""

    component: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, "n d"]
    half: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.half)

    def where(self, mask: np.ndarray) -> _Cells:
        """The cells that the mask selects."""
        return _Cells(self.component[mask], self.centre[mask], self.half[mask])

    def halved(self) -> _Cells:
        """The 2^d children of each cell, next to each other."""
        dimension = self.centre.shape[1]
        corners = np.array(list(itertools.product((-0.5, 0.5), repeat=dimension)))
        centre = self.centre[:, None, :] + self.half[:, None, None] * corners
        family = len(corners)
        return _Cells(
            np.repeat(self.component, family), centre.reshape(-1, dimension), np.repeat(self.half / 2, family)
        )


def expected_log_prob(
    q: GaussianMixture, p: GaussianMixture, *, relative: float = RELATIVE, absolute: float = ABSOLUTE
) -> Integral:
    """E_q[log p] in nats, to within max(absolute, relative * |value|). One or two dimensions.

    Components of weight 0 contribute nothing. Raises UsageError in more dimensions or for different ones, and GateError
    where half a million cells are not enough.
    """
    return expected_log_probs([q], p, relative=relative, absolute=absolute)[0]


def expected_log_probs(
    qs: Sequence[GaussianMixture], p: GaussianMixture, *, relative: float = RELATIVE, absolute: float = ABSOLUTE
) -> list[Integral]:
    """`expected_log_prob` for mixtures that differ in their weights alone.

    The expectation is linear in the weights, so each component is integrated once for all of them.
    """
    if qs[0].dimension != p.dimension:
        raise UsageError(
            f"dimensions {qs[0].dimension} and {p.dimension} differ; both mixtures must live in the same space"
        )
    if p.dimension > 2:
        raise UsageError(
            f"quadrature in {p.dimension} dimensions is not offered (1 or 2 are); use precision_recall, which draws "
            "samples"
        )
    if int((p.weights > 0).sum()) == 1:
        return [Integral(_expected_log_gaussian(q, p), 0.0) for q in qs]
    weights = torch.stack([q.weights for q in qs])
    most = weights.amax(0)  # each component is as exact as the mixture needs in which it weighs most
    q, scale = replace(qs[0], log_weights=(most / most.sum()).log()), float(most.sum())
    shares = scale * torch.where(most > 0, weights / most, 0.0).numpy()

    cells = _resolve_narrow_components(_start(q), q, p)
    coarse, values, error = _integrals(cells, q, p), np.zeros(q.num_components), 0.0
    while True:
        children = cells.halved()
        fine = _integrals(children, q, p).reshape(len(cells), -1)
        change = scale * np.abs(fine.sum(1) - coarse)
        totals = shares @ (values + _by_component(cells, fine, q))
        allowed = max(absolute, relative * np.abs(totals).min()) - error
        if change.sum() <= allowed:
            return [Integral(float(total), error + float(change.sum())) for total in totals]
        # The cells that are good enough share half of the error still allowed; the others are halved again.
        order = np.argsort(change, kind="stable")
        done = np.zeros(len(cells), dtype=bool)
        done[order[np.cumsum(change[order]) <= allowed / 2]] = True
        values += _by_component(cells.where(done), fine[done], q)
        error += float(change[done].sum())
        keep = np.repeat(~done, fine.shape[1])
        cells, coarse = children.where(keep), fine[~done].reshape(-1)
        if len(cells) > _MOST_CELLS:
            raise _not_converged(len(cells), error + float(change[~done].sum()), allowed + error)


def _by_component(cells: _Cells, integrals: Float[np.ndarray, "n f"], q: GaussianMixture) -> Float[np.ndarray, " k"]:
    """Sums of the cells' integrals over each component of q."""
    return np.bincount(cells.component, integrals.sum(1), minlength=q.num_components)


def exact_precision_recalls(
    *,
    reference: GaussianMixture,
    candidates: Sequence[GaussianMixture],
    relative: float = RELATIVE,
    absolute: float = ABSOLUTE,
) -> list[PrecisionRecall]:
    """All six quantities of `PrecisionRecall` by quadrature, for candidates that differ in their weights alone.

    Selections of one mixture are such candidates. The identities KL(q||p) = -H(q) - P and KL(p||q) = -H(p) - R hold
    exactly.
    """
    tolerances = {"relative": relative, "absolute": absolute}
    reference_entropy, measured = exact_entropy(reference, **tolerances), []
    for candidate, precision in zip(candidates, expected_log_probs(candidates, reference, **tolerances), strict=True):
        own, recall = (expected_log_prob(side, candidate, **tolerances).value for side in (candidate, reference))
        measured.append(
            PrecisionRecall(
                precision=Estimate.exact(precision.value),
                recall=Estimate.exact(recall),
                candidate_entropy=Estimate.exact(-own),
                reference_entropy=Estimate.exact(reference_entropy),
                kl_candidate_reference=Estimate.exact(own - precision.value),
                kl_reference_candidate=Estimate.exact(-reference_entropy - recall),
            )
        )
    return measured


def _expected_log_gaussian(q: GaussianMixture, p: GaussianMixture) -> float:
    """E_q[log p] where one component of p has all the weight: the mean of a quadratic, which q's moments give."""
    k = int(p.weights.argmax())
    whitener = p.whiteners[k]
    mean, covariance = q.moments()
    spread = whitener @ (covariance + torch.outer(mean - p.means[k], mean - p.means[k])) @ whitener.T
    return float(whitener.diagonal().log().sum() - 0.5 * (spread.trace() + q.dimension * math.log(2 * math.pi)))


@lru_cache(maxsize=4)
def exact_entropy(p: GaussianMixture, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> float:
    """H(p) = -E_p[log p] in nats. Cached, since one ground truth is compared with many students."""
    return -expected_log_prob(p, p, relative=relative, absolute=absolute).value


def _start(q: GaussianMixture) -> _Cells:
    """Cells two standard deviations wide, for each component that has any weight."""
    axis = np.arange(-_REACH + 1, _REACH, 2.0)
    grid = np.array(list(itertools.product(axis, repeat=q.dimension)))
    alive = np.flatnonzero(q.weights.numpy() > 0)
    return _Cells(np.repeat(alive, len(grid)), np.tile(grid, (len(alive), 1)), np.ones(len(alive) * len(grid)))


def _resolve_narrow_components(cells: _Cells, q: GaussianMixture, p: GaussianMixture) -> _Cells:
    """Halve cells until none is wide compared with a component of p that it meets.

    The quadrature rule could miss such a component altogether, and so the error estimate would not see it.
    """
    finished: list[_Cells] = []
    # p's components in the coordinates of each of q's: factors (j, k, d, d), centres (j, k, d), narrowest axes (j, k)
    whiteners, alive = q.whiteners.numpy(), p.weights.numpy() > 0
    shapes = whiteners[:, None] @ p.factors.numpy()[alive]
    centres = np.einsum("jde,jke->jkd", whiteners, p.means.numpy()[alive] - q.means.numpy()[:, None])
    narrowest = np.linalg.svd(shapes, compute_uv=False)[..., -1]
    while len(cells):
        too_wide = np.zeros(len(cells), dtype=bool)
        nearest = np.maximum(np.abs(cells.centre) - cells.half[:, None], 0)
        matters = q.log_weights.numpy()[cells.component] - 0.5 * np.square(nearest).sum(1) > _NEGLIGIBLE
        for j in np.unique(cells.component[matters]):
            here = np.flatnonzero((cells.component == j) & matters)
            half = cells.half[here]
            away = np.linalg.solve(shapes[j], cells.centre[here].T - centres[j, :, :, None])
            meets = np.linalg.norm(away, axis=1) <= 6 + half * math.sqrt(q.dimension) / narrowest[j, :, None]
            too_wide[here] = (meets & (half > 2 * narrowest[j, :, None])).any(0)
        finished.append(cells.where(~too_wide))
        cells = cells.where(too_wide).halved()
        if len(cells) > _MOST_CELLS:
            raise _not_converged(len(cells), math.inf, ABSOLUTE)
    return _Cells(
        *(np.concatenate([getattr(part, name) for part in finished]) for name in ("component", "centre", "half"))
    )


def _integrals(cells: _Cells, q: GaussianMixture, p: GaussianMixture) -> Float[np.ndarray, " n"]:
    """alpha_j times the integral of N(z; 0, I) log p over each cell, by the tensor Gauss-Legendre rule."""
    d, weights, means, factors = q.dimension, q.weights.numpy(), q.means.numpy(), q.factors.numpy()
    nodes, masses = _gauss_legendre(_ORDER)
    result = np.empty(len(cells))
    step = max(1, _CHUNK // _ORDER**d)
    for first in range(0, len(cells), step):
        part = slice(first, first + step)
        j, half = cells.component[part], cells.half[part]
        lone = (len(j), *[1] * d)  # one number for a cell's whole grid of nodes
        z, mass = [], weights[j].reshape(lone)
        for i in range(d):  # an axis of the grid for each of z
            along = cells.centre[part, i, None] + half[:, None] * nodes
            z.append(along.reshape(len(j), *(_ORDER if axis == i else 1 for axis in range(d))))
            mass = mass * ((half[:, None] * masses) * np.exp(-0.5 * along**2) / math.sqrt(2 * math.pi)).reshape(
                z[i].shape
            )
        x = np.empty((d, len(j), *[_ORDER] * d))
        for i in range(d):
            x[i] = means[j, i].reshape(lone) + sum(factors[j, i, m].reshape(lone) * z[m] for m in range(i + 1))
        log_p = p.log_prob(torch.from_numpy(x.reshape(d, -1)).T).numpy().reshape(mass.shape)
        result[part] = (mass * log_p).reshape(len(j), -1).sum(1)
    return result


@lru_cache(maxsize=1)
def _gauss_legendre(order: int) -> tuple[Float[np.ndarray, " order"], Float[np.ndarray, " order"]]:
    return np.polynomial.legendre.leggauss(order)


def _not_converged(cells: int, error: float, allowed: float) -> GateError:
    return GateError(
        f"quadrature needs more than {cells} cells (error {error:.1e}, allowed {allowed:.1e}): one mixture is too "
        "thin beside the other;"
        " estimate from draws instead, by giving the number of evaluation draws"
    )
