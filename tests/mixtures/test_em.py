import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as ScikitMixture

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.mixtures import em as em_module
from distilscope.mixtures.em import _EM, REG_COVAR, _k_means, fit, fit_many
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


@pytest.mark.parametrize("covariance", ["diag", "full"])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_from_the_same_start_the_fits_are_scikit_learns(covariance, dimension):
    """Sixty problems at once; each stops at the step where scikit-learn stops."""
    random = np.random.default_rng(dimension)
    centres = random.normal(scale=3, size=(60, 3, 1, dimension))
    points = torch.from_numpy((centres + random.normal(size=(60, 3, 20, dimension))).reshape(60, 60, dimension) + 100)
    found = fit_many(points, components=3, key=Key(7), covariance=covariance)
    axes = (points - points.mean(1, keepdim=True)).mT.contiguous()
    start, _ = _k_means(axes, torch.from_numpy(Key(7).generator().random((len(points), 1, 3)))[:, 0])
    em = _EM(axes, covariance, REG_COVAR)
    weights, means, covariances = em._maximise(em.features, start)
    precisions = 1 / covariances if covariance == "diag" else torch.linalg.inv(covariances)
    for i, data in enumerate(points):
        oracle = ScikitMixture(
            3,
            covariance_type=covariance,
            max_iter=1000,
            weights_init=weights[i].numpy() / weights[i].numpy().sum(),
            means_init=(means[i] + data.mean(0)).numpy(),
            precisions_init=precisions[i].numpy(),
        ).fit(data.numpy())
        assert found.log_likelihood[i] == pytest.approx(oracle.score(data.numpy()), abs=1e-6)
        assert int(found.iterations[i]) == oracle.n_iter_
        np.testing.assert_allclose(found[i].mixture.log_prob(data), oracle.score_samples(data.numpy()), atol=1e-5)
        assert found[i].log_likelihood == pytest.approx(float(found[i].mixture.log_prob(data).mean()), abs=1e-9)


def test_starts_are_as_good_as_scikit_learns(ring):
    """Different random numbers, the same algorithm: the likelihoods reached agree over many problems."""
    points = ring.sample(200 * 100, Key(0)).view(200, 100, 2)
    ours = fit_many(points, components=4, key=Key(1)).log_likelihood.numpy()
    theirs = [
        ScikitMixture(4, covariance_type="diag", random_state=i).fit(data.numpy()).score(data.numpy())
        for i, data in enumerate(points)
    ]
    difference = ours - np.array(theirs)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(200)


def test_a_problem_does_not_depend_on_the_others(ring, monkeypatch):
    points = ring.sample(40 * 60, Key(0)).view(40, 60, 2)
    together = fit_many(points, components=4, key=Key(1), n_init=2)
    monkeypatch.setattr(em_module, "_BATCH_NUMBERS", 60 * 4 * 2 * 3)
    apart = fit_many(points, components=4, key=Key(1), n_init=2)
    torch.testing.assert_close(apart.log_likelihood, together.log_likelihood, rtol=1e-10, atol=0)
    torch.testing.assert_close(apart.means, together.means, rtol=1e-8, atol=1e-10)
    assert apart.iterations.tolist() == together.iterations.tolist()


def test_with_a_key_for_each_a_problem_comes_out_as_if_alone(ring):
    points, keys = ring.sample(5 * 60, Key(0)).view(5, 60, 2), [Key(seed) for seed in (3, 1, 4, 1, 5)]
    together = fit_many(points, components=4, key=keys, n_init=2)
    for i, key in enumerate(keys):
        alone = fit(points[i], components=4, key=key, n_init=2)
        torch.testing.assert_close(together[i].mixture.means, alone.mixture.means, rtol=1e-8, atol=1e-10)
        assert together[i].iterations == alone.iterations


def test_more_starts_are_never_worse(ring):
    points = ring.sample(30 * 60, Key(0)).view(30, 60, 2)
    few, many = (fit_many(points, components=6, key=Key(2), n_init=starts).log_likelihood.mean() for starts in (1, 8))
    assert many > few


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
    torch.testing.assert_close(
        student.covariances[0], sample if covariance == "full" else sample.diagonal(), rtol=1e-6, atol=1e-9
    )
    mean, spread = selected.moments()
    torch.testing.assert_close(student.means[0], mean, atol=0.03, rtol=0)
    torch.testing.assert_close(
        student.covariances[0], spread if covariance == "full" else spread.diagonal(), atol=0.05, rtol=0
    )


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
    assert "only 1 distinct points for 2 components" in " ".join(same.warnings)


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
