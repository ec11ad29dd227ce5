"""Maximum likelihood by EM, through scikit-learn's GaussianMixture; nothing here knows who is teacher and who is student."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distilscope.distribution import Key
from distilscope.errors import UsageError, unknown_name
from distilscope.mog.mixture import Covariance, GaussianMixture

REG_COVAR = 1e-6
"""Added to every variance in each M-step (scikit-learn's default), so that no component can collapse onto a point."""


@dataclass(frozen=True)
class Fit:
    """A fitted mixture and how the fit went. `warnings` is empty where all went well."""

    mixture: GaussianMixture
    log_likelihood: float
    """Mean over the points it was fitted on, in nats per draw."""
    iterations: int
    converged: bool
    warnings: tuple[str, ...] = ()


def fit(
    points: Float[Tensor, "n d"],
    *,
    components: int,
    key: Key,
    covariance: Covariance = "diag",
    n_init: int = 1,
    max_iter: int = 1000,
    tolerance: float = 1e-3,
    reg_covar: float = REG_COVAR,
) -> Fit:
    """The mixture of `components` Gaussians that EM finds for `points`, the best of `n_init` starts from k-means.

    The starts depend on the key alone. EM stops when a step gains less than `tolerance` nats per draw; where it has not
    after `max_iter` steps, the result says so in `warnings`. Raises UsageError on unusable points or more
    components than points.
    """
    from sklearn.mixture import GaussianMixture as ScikitMixture
    from threadpoolctl import threadpool_limits

    if covariance not in ("diag", "full"):
        raise unknown_name("covariance", covariance, ("diag", "full"))
    if components < 1:
        raise UsageError(f"the number of components is {components}, but must be at least 1")
    if points.ndim != 2 or not bool(points.isfinite().all()):
        raise UsageError(f"points of shape {tuple(points.shape)} cannot be fitted; they must be (n, d) and all finite")
    if components > len(points):
        raise UsageError(f"{components} components cannot be fitted to {len(points)} points; use more points or fewer components")
    model = ScikitMixture(
        components,
        covariance_type=covariance,
        n_init=n_init,
        max_iter=max_iter,
        tol=tolerance,
        reg_covar=reg_covar,
        random_state=int(key.generator().integers(2**32)),
    )
    # One thread: k-means adds up its threads' partial sums in whichever order they finish.
    with threadpool_limits(limits=1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = points.numpy(force=True).astype(np.float64)
        model.fit(data)
        log_likelihood = float(model.score(data))
    notes = dict.fromkeys(" ".join(str(item.message).split()) for item in caught)
    mixture = GaussianMixture.of(weights=model.weights_, means=model.means_, covariances=torch.from_numpy(model.covariances_))
    return Fit(mixture, log_likelihood, int(model.n_iter_), bool(model.converged_), tuple(notes))
