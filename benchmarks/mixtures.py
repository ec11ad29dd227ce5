"""Ten thousand small mixture fits beside scikit-learn."""

from __future__ import annotations

import warnings

import torch

from benchmarks.models import Case, Timed
from distilscope.distribution import Key


def ours() -> Timed:
    from distilscope.mixtures.em import fit_many

    points = _points()

    def timed() -> int:
        return len(fit_many(points, components=4, key=Key(0)))

    return timed


def scikit_learn() -> Timed:
    """One problem after another, on one thread: more of them only slow such small fits down."""
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    problems = _points().numpy()[:1000]

    def timed() -> int:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i, points in enumerate(problems):
                GaussianMixture(4, covariance_type="diag", random_state=i).fit(points)
        return len(problems)

    return timed


def _points() -> torch.Tensor:
    """10 000 problems: 100 points of the paper's ring of eight Gaussians each."""
    from distilscope.mixtures.config import ground_truth

    return ground_truth().sample(1_000_000, Key(0)).view(10_000, 100, 2)


CASES = {
    "fit 10 000 mixtures of 4 to 100 points (fits/s): this package": Case(ours),
    "fit 10 000 mixtures of 4 to 100 points (fits/s): scikit-learn": Case(scikit_learn),
}
