import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as td

from distilscope.distribution import Key
from distilscope.errors import GateError, UsageError
from distilscope.evaluation.precision_recall import precision_recall
from distilscope.mixtures import quadrature
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.quadrature import exact_precision_recalls, expected_log_prob, expected_log_probs
from distilscope.selectivity import Power


def gaussian(mean, covariance, *, pieces: int = 1) -> GaussianMixture:
    """In more than one equal piece it is a mixture, whose log-density has no closed form to be taken."""
    return GaussianMixture.of(weights=[1 / pieces] * pieces, means=[mean] * pieces, covariances=[covariance] * pieces)


def cross(q_mean, q_covariance, p_mean, p_covariance) -> float:
    """E_q[log p] of two Gaussians, in closed form."""
    q = td.MultivariateNormal(q_mean, q_covariance)
    return float(-q.entropy() - td.kl_divergence(q, td.MultivariateNormal(p_mean, p_covariance)))


def jensen_bound(q: GaussianMixture, p: GaussianMixture) -> float:
    """sum_jk alpha_j alpha_k E_{q_j}[log p_k] <= E_q[log p] (section 3.1)."""
    return sum(
        float(a * b) * cross(q.means[j], q.full_covariances[j], p.means[k], p.full_covariances[k])
        for j, a in enumerate(q.weights)
        for k, b in enumerate(p.weights)
    )


PAIRS = [
    (([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]), ([1.0, -2.0], [[2.0, 0.5], [0.5, 1.0]])),
    (([0.0, 0.0], [[1e-4, 0.0], [0.0, 4.0]]), ([0.3, 0.2], [[1.0, 0.9], [0.9, 1.0]])),
    (([0.0, 0.0], [[9.0, 1.0], [1.0, 2.0]]), ([0.0, 0.0], [[1e-4, 0.0], [0.0, 1e-4]])),
]


@pytest.mark.parametrize(("q", "p"), PAIRS)
@pytest.mark.parametrize("pieces", [1, 2])
def test_gaussians_in_closed_form(q, p, pieces):
    expected = cross(*(torch.tensor(value, dtype=torch.float64) for value in (*q, *p)))
    integral = expected_log_prob(gaussian(*q), gaussian(*p, pieces=pieces))
    assert integral.value == pytest.approx(expected, rel=1e-8, abs=1e-6)
    assert integral.error <= max(1e-6, 1e-8 * abs(expected))


def test_entropy_of_components_far_apart_adds_the_weights_entropy():
    apart = GaussianMixture.of(
        weights=[0.2, 0.8], means=[[0.0, 0.0], [100.0, 0.0]], covariances=[[1.0, 1.0], [0.01, 4.0]]
    )
    parts = 0.2 * math.log(2 * math.pi * math.e) + 0.8 * math.log(2 * math.pi * math.e * 0.2)
    assert -expected_log_prob(apart, apart).value == pytest.approx(apart.weight_entropy + parts, abs=1e-6)


@pytest.mark.parametrize("beta", [0.5, 1.0, 30.0, math.inf])
def test_agrees_with_monte_carlo_within_its_error_bars(ring, tilted, beta):
    candidate = tilted.select(Power(beta))
    exact = exact_precision_recalls(reference=ring, candidates=[candidate])[0].as_json()
    drawn = precision_recall(reference=ring, candidate=candidate, n=40_000, key=Key(0)).as_json()
    for name, estimate in drawn.items():
        assert abs(estimate["mean"] - exact[name]["mean"]) < 4 * estimate["stderr"], name
        assert exact[name]["stderr"] == 0


def test_agrees_with_a_fine_grid_in_one_dimension():
    q = GaussianMixture.of(weights=[0.3, 0.7], means=[[-1.0], [2.0]], covariances=[[0.5], [1.5]])
    p = GaussianMixture.of(weights=[0.6, 0.4], means=[[0.0], [0.5]], covariances=[[0.01], [2.0]])
    x = torch.linspace(-15, 15, 300_001, dtype=torch.float64)[:, None]
    expected = float((q.log_prob(x).exp() * p.log_prob(x)).sum()) * 1e-4
    assert expected_log_prob(q, p).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("at", [0.0, 0.77, 1.0])
def test_a_component_too_narrow_for_any_grid_is_seen(at):
    """E_q[log p] with a spike of p: over q's broad density, the gain near the spike is density(at) * integral of the
    gain."""
    spike, broad, width = 0.5, 0.5, 1e-4
    p = GaussianMixture.of(weights=[spike, broad], means=[[at], [0.0]], covariances=[[width**2], [1.0]])
    q = gaussian([0.0], [1.0])
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = math.exp(-(at**2) / 2) / math.sqrt(2 * math.pi)
    gain = torch.log1p(spike / broad * torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / width / density)
    expected = math.log(broad) + float(q.log_prob(q.means)) - 0.5 + density * width * float(gain.sum()) * (24 / 200_000)
    assert expected_log_prob(q, p, absolute=1e-9).value == pytest.approx(expected, abs=2e-7)


def test_the_error_bound_holds(ring, tilted):
    best = expected_log_prob(tilted, ring, relative=1e-12, absolute=1e-10).value
    for tolerance in (1e-2, 1e-4, 1e-6):
        rough = expected_log_prob(tilted, ring, relative=0.0, absolute=tolerance)
        assert abs(rough.value - best) <= rough.error <= tolerance


def test_identities_hold_exactly(ring, tilted):
    result = exact_precision_recalls(reference=ring, candidates=[tilted])[0]
    means = {name: value["mean"] for name, value in result.as_json().items()}
    assert means["kl_candidate_reference"] == -means["candidate_entropy"] - means["precision"]
    assert means["kl_reference_candidate"] == -means["reference_entropy"] - means["recall"]
    same = exact_precision_recalls(reference=ring, candidates=[ring])[0]
    assert same.kl_candidate_reference.mean == same.kl_reference_candidate.mean == 0


def test_a_removed_component_counts_for_nothing(tilted):
    only = gaussian(tilted.means[0].tolist(), tilted.covariances[0].tolist())
    best = tilted.select(Power(math.inf))
    assert expected_log_prob(best, tilted).value == pytest.approx(expected_log_prob(only, tilted).value, abs=1e-12)
    assert -expected_log_prob(best, best).value == pytest.approx(
        float(td.MultivariateNormal(only.means[0], only.covariances[0]).entropy())
    )


def test_selections_of_one_mixture_are_integrated_together(ring, tilted):
    selections = [tilted.select(Power(beta)) for beta in (0.2, 1.0, 40.0, math.inf)]
    for p in (ring, tilted):
        together = expected_log_probs(selections, p)
        for selected, integral in zip(selections, together, strict=True):
            assert integral.value == pytest.approx(expected_log_prob(selected, p).value, abs=2e-6)
            assert integral.error <= 1e-6


numbers = st.floats(-2, 2)
variances = st.floats(0.05, 3)
components = st.lists(st.tuples(st.floats(0.05, 1), numbers, variances), min_size=1, max_size=4)


@st.composite
def mixtures(draw):
    weights, means, spreads = zip(*draw(components), strict=True)
    return GaussianMixture.of(
        weights=[w / sum(weights) for w in weights], means=[[m] for m in means], covariances=[[v] for v in spreads]
    )


@settings(max_examples=30, deadline=None)
@given(mixtures(), mixtures())
def test_jensens_bound_and_gibbs_inequality(q, p):
    value = expected_log_prob(q, p).value
    assert jensen_bound(q, p) <= value + 1e-6
    assert value <= expected_log_prob(q, q).value + 2e-6


def test_jensens_bound_in_two_dimensions(ring, tilted):
    assert jensen_bound(ring, tilted) < expected_log_prob(ring, tilted).value
    single = gaussian([0.0, 0.0], [0.7, 0.8])
    assert jensen_bound(ring, single) == pytest.approx(expected_log_prob(ring, single).value, abs=1e-6)


def test_what_quadrature_refuses(monkeypatch, tilted):
    deep = gaussian([0.0] * 3, [1.0] * 3)
    with pytest.raises(UsageError, match="3 dimensions"):
        expected_log_prob(deep, deep)
    with pytest.raises(UsageError, match="differ"):
        expected_log_prob(deep, tilted)
    monkeypatch.setattr(quadrature, "_MOST_CELLS", 100)
    with pytest.raises(GateError, match="estimate from draws instead"):
        expected_log_prob(gaussian([0.0, 0.0], [1.0, 1.0]), gaussian([0.0, 0.0], [1e-6, 1.0], pieces=2))
