import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import distributions as td

from distilscope.distribution import Distribution, Key
from distilscope.errors import UsageError
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.selectivity import Power, Temperature, TopK

weight_lists = st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6).map(lambda w: [value / sum(w) for value in w])


def line(weights: list[float]) -> GaussianMixture:
    k = len(weights)
    return GaussianMixture.of(
        weights=weights, means=[[float(i)] for i in range(k)], covariances=[[0.5 + i] for i in range(k)]
    )


def test_log_prob_agrees_with_torch_and_scipy(tilted, ring):
    x = tilted.sample(50, Key(0))
    components = td.MultivariateNormal(tilted.means, tilted.covariances)
    oracle = td.MixtureSameFamily(td.Categorical(tilted.weights), components).log_prob(x)
    torch.testing.assert_close(tilted.log_prob(x), oracle)
    for mixture in (tilted, ring):
        pairs = zip(mixture.weights, mixture.means, mixture.full_covariances, strict=True)
        density = sum(float(w) * stats.multivariate_normal(m, c).pdf(x) for w, m, c in pairs)
        np.testing.assert_allclose(mixture.log_prob(x).exp(), density, rtol=1e-10)


def test_diagonal_and_full_storage_are_the_same_distribution(ring):
    full = GaussianMixture(ring.log_weights, ring.means, ring.full_covariances)
    x = ring.sample(100, Key(1))
    torch.testing.assert_close(full.log_prob(x), ring.log_prob(x))
    torch.testing.assert_close(full.sample(100, Key(1)), x)
    assert full.as_json() == ring.as_json()


def test_density_integrates_to_one(tilted):
    axis = torch.linspace(-8, 8, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert float(tilted.log_prob(grid).exp().sum()) * 0.02**2 == pytest.approx(1, abs=1e-9)


def test_draws_fall_into_components_as_often_as_the_weights_say():
    apart = GaussianMixture.of(
        weights=[0.1, 0.2, 0.3, 0.4], means=[[0.0], [10.0], [20.0], [30.0]], covariances=[[0.1]] * 4
    )
    counts = torch.bincount((apart.sample(20_000, Key(3)).squeeze(1) / 10).round().long(), minlength=4)
    assert stats.chisquare(counts.numpy(), 20_000 * apart.weights.numpy()).pvalue > 0.001


def test_draws_of_each_component_are_gaussian(tilted):
    one = GaussianMixture.of(weights=[1.0], means=tilted.means[:1], covariances=tilted.covariances[:1])
    white = torch.linalg.solve_triangular(one.factors[0], (one.sample(5000, Key(4)) - one.means).T, upper=False)
    assert stats.kstest(white.reshape(-1).numpy(), "norm").pvalue > 0.001
    assert abs(float(torch.corrcoef(white)[0, 1])) < 0.05


def test_draws_are_a_function_of_the_key(ring):
    assert torch.equal(ring.sample(10, Key(0)), ring.sample(10, Key(0)))
    assert not torch.equal(ring.sample(10, Key(0)), ring.sample(10, Key(1)))


def test_moments_are_those_of_the_draws(tilted):
    mean, covariance = tilted.moments()
    x = tilted.sample(200_000, Key(5))
    torch.testing.assert_close(x.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), covariance, atol=0.03, rtol=0)


def test_moments_of_the_ring_by_hand(ring):
    mean, covariance = ring.moments()
    torch.testing.assert_close(mean, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(covariance, torch.eye(2, dtype=torch.float64) * (6 / 8 + 0.025))


def test_beta_one_changes_nothing(tilted):
    torch.testing.assert_close(tilted.select(Power(1)).weights, tilted.weights)


@given(weight_lists, st.floats(0.1, 5), st.floats(0.1, 5))
def test_powers_compose_by_multiplying(weights, a, b):
    twice = line(weights).select(Power(a)).select(Power(b))
    torch.testing.assert_close(twice.log_weights, line(weights).select(Power(a * b)).log_weights, atol=1e-9, rtol=1e-9)


@given(weight_lists, st.floats(0.1, 20), st.floats(1.0, 10))
def test_the_weights_entropy_falls_with_beta(weights, beta, factor):
    assert (
        line(weights).select(Power(beta * factor)).weight_entropy
        <= line(weights).select(Power(beta)).weight_entropy + 1e-9
    )


def test_selection_is_equation_2_and_a_temperature_is_its_inverse(tilted):
    raised = tilted.weights**3 / (tilted.weights**3).sum()
    torch.testing.assert_close(tilted.select(Power(3)).weights, raised)
    torch.testing.assert_close(tilted.select(Temperature(1 / 3)).weights, raised)
    torch.testing.assert_close(tilted.weights, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), rtol=1e-6, atol=0)


def test_infinite_beta_is_the_argmax_and_still_a_distribution(tilted):
    best = tilted.select(Power(math.inf))
    assert best.weights.tolist() == [1, 0, 0]
    assert best.weight_entropy == 0
    x = best.sample(100, Key(0))
    torch.testing.assert_close(
        best.log_prob(x), td.MultivariateNormal(tilted.means[0], tilted.covariances[0]).log_prob(x)
    )
    assert torch.isfinite(best.moments()[1]).all()
    assert tilted.select(TopK(2)).weights.tolist() == pytest.approx([0.625, 0.375, 0], abs=1e-6)


def test_selection_survives_powers_far_below_the_smallest_float():
    mixture = line([0.7, 0.3])
    there_and_back = mixture.select(Power(1e4)).select(Power(1e-4))
    torch.testing.assert_close(there_and_back.weights, mixture.weights)


def test_the_most_responsible_component_has_the_largest_posterior_probability(tilted):
    x = tilted.sample(200, Key(2))
    components = td.MultivariateNormal(tilted.means, tilted.covariances)
    shares = (tilted.log_weights + components.log_prob(x[:, None])).softmax(-1)
    assert torch.equal(tilted.most_responsible(x), shares.argmax(-1))
    assert tilted.most_responsible(tilted.means).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_any_dimension(dimension):
    covariance = torch.eye(dimension, dtype=torch.float64) + 0.3
    mixture = GaussianMixture.of(
        weights=[0.4, 0.6], means=torch.randn(2, dimension), covariances=torch.stack([covariance, 2 * covariance])
    )
    draws = mixture.sample(20, Key(0))
    assert draws.shape == (20, dimension)
    oracle = td.MixtureSameFamily(
        td.Categorical(mixture.weights), td.MultivariateNormal(mixture.means, mixture.covariances)
    )
    torch.testing.assert_close(mixture.log_prob(draws), oracle.log_prob(draws))


def test_it_is_a_distribution_and_a_value(ring):
    distribution: Distribution[torch.Tensor] = ring
    before = ring.as_json()
    distribution.select(Power(100)).sample(3, Key(0))
    assert ring.as_json() == before
    with pytest.raises(AttributeError):
        ring.means = torch.zeros(8, 2)


good = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [1.0, 1.0]], "covariances": [[1.0, 1.0], [1.0, 1.0]]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": [0.5, 0.6]}, "sum to 1.1"),
        ({"weights": [1.5, -0.5]}, "weight 1 is -0.5"),
        ({"weights": [math.nan, 1.0]}, "weight 0 is nan"),
        ({"weights": [1.0]}, r"shape \(1,\)"),
        ({"weights": 1.0}, r"shape \(\)"),
        ({"means": [0.0, 1.0]}, r"means have shape \(2,\)"),
        ({"means": [[0.0, math.nan], [1.0, 1.0]]}, "mean 0 is not finite"),
        ({"covariances": [[1.0], [1.0]]}, r"covariances have shape \(2, 1\)"),
        ({"covariances": [[1.0, 1.0], [1.0, 0.0]]}, "covariance 1 has smallest eigenvalue 0"),
        ({"covariances": [[1.0, 1.0], [-1.0, 1.0]]}, "covariance 1 has smallest eigenvalue -1"),
        ({"covariances": [[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]}, "covariance 0 has smallest eigenvalue"),
        ({"covariances": [[[1.0, 0.5], [0.1, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]}, "covariance 0 is not symmetric"),
        ({"covariances": [[math.inf, 1.0], [1.0, 1.0]]}, "covariance 0 is not finite"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_mixture_is_refused_with_the_reason(change, says):
    with pytest.raises(UsageError, match=says):
        GaussianMixture.of(**(good | change))


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_asked_of_a_mixture():
    mixture = GaussianMixture.of(**good)
    with pytest.raises(UsageError, match="number of draws is 0"):
        mixture.sample(0, Key(0))
    with pytest.raises(UsageError, match=r"shape \(5, 3\)"):
        mixture.log_prob(torch.zeros(5, 3))
