import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as ScikitMixture

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.mog.em import REG_COVAR, fit
from distilscope.selectivity import Power


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_log_likelihood_never_falls(ring, covariance):
    points = ring.sample(300, Key(0))
    path = [
        fit(points, components=4, key=Key(1), covariance=covariance, max_iter=steps, tolerance=1e-12).log_likelihood
        for steps in range(1, 25)
    ]
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(path))
    assert path[-1] > path[0]


def test_the_fit_is_scikit_learns(ring):
    points = ring.sample(200, Key(0))
    result = fit(points, components=4, key=Key(7), n_init=3)
    seed = int(Key(7).generator().integers(2**32))
    oracle = ScikitMixture(4, covariance_type="diag", n_init=3, max_iter=1000, random_state=seed).fit(points.numpy())
    np.testing.assert_allclose(result.mixture.weights, oracle.weights_, rtol=1e-9)
    np.testing.assert_allclose(result.mixture.log_prob(points), oracle.score_samples(points.numpy()), rtol=1e-9)
    assert result.log_likelihood == pytest.approx(float(result.mixture.log_prob(points).mean()), rel=1e-9)
    assert result.converged
    assert result.warnings == ()


def test_it_finds_what_the_points_were_drawn_from(tilted):
    found = fit(tilted.sample(20_000, Key(0)), components=3, key=Key(0), covariance="full", n_init=3).mixture
    order = found.weights.argsort(descending=True)
    torch.testing.assert_close(found.weights[order], tilted.weights, atol=0.02, rtol=0)
    torch.testing.assert_close(found.means[order], tilted.means, atol=0.05, rtol=0)
    torch.testing.assert_close(found.covariances[order], tilted.covariances, atol=0.05, rtol=0)


@pytest.mark.parametrize("covariance", ["diag", "full"])
@pytest.mark.parametrize("beta", [1.0, 5.0, math.inf])
def test_one_component_is_moment_matching(tilted, covariance, beta):
    """At finite n exactly (plus reg_covar), and so, for large n, the moments of the selected teacher."""
    selected = tilted.select(Power(beta))
    points = selected.sample(50_000, Key(2))
    student = fit(points, components=1, key=Key(0), covariance=covariance).mixture
    torch.testing.assert_close(student.means[0], points.mean(0))
    sample = torch.cov(points.T, correction=0) + REG_COVAR * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(student.covariances[0], sample if covariance == "full" else sample.diagonal(), rtol=1e-6, atol=1e-9)
    population = selected.moment_matched(covariance)
    torch.testing.assert_close(student.means, population.means, atol=0.03, rtol=0)
    torch.testing.assert_close(student.covariances, population.covariances, atol=0.05, rtol=0)


def test_the_fit_is_a_function_of_points_and_key(ring):
    points = ring.sample(400, Key(0))
    first, again, other = (fit(points, components=6, key=Key(seed)).mixture.as_json() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_what_goes_wrong_is_said_in_the_result(ring):
    stopped = fit(ring.sample(100, Key(0)), components=4, key=Key(0), max_iter=1, tolerance=1e-12)
    assert not stopped.converged
    assert "did not converge" in stopped.warnings[0]
    same = fit(torch.ones(10, 2, dtype=torch.float64), components=2, key=Key(0))
    assert "distinct clusters" in " ".join(same.warnings)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"components": 11}, "11 components cannot be fitted to 10 points"),
        ({"components": 0}, "must be at least 1"),
        ({"components": 1, "covariance": "ful"}, "did you mean 'full'"),
        ({"components": 1, "points": torch.full((10, 2), math.nan)}, "all finite"),
        ({"components": 1, "points": torch.zeros(10)}, r"shape \(10,\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_fitted(options, says):
    with pytest.raises(UsageError, match=says):
        fit(**({"points": torch.randn(10, 2), "key": Key(0)} | options))
