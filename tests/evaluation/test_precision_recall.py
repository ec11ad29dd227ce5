import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distilscope.distribution import Key
from distilscope.errors import GateError, UsageError
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.gates import PAIRED_TOLERANCE, check_draws, require_paired, require_sampler, sampler_z
from distilscope.evaluation.precision_recall import ESTIMATES, Scored, compare, precision_recall
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.selectivity import Power, Temperature, TopK
from fake_models import enumerate_lm, three_tokens

log_probs = hnp.arrays(np.float64, 12, elements=st.floats(-200, 0))
KEY = Key(0, ("precision and recall",))


@given(log_probs, log_probs, log_probs, log_probs)
def test_divergences_are_entropies_and_cross_terms(a, b, c, d):
    b, d = np.minimum(a, b), np.minimum(c, d)  # no distribution is likelier than another under its own draws
    found = compare(candidate=Scored(a, b), reference=Scored(c, d))
    assert found.kl_candidate_reference.mean == pytest.approx(
        -found.candidate_entropy.mean - found.precision.mean, abs=1e-9
    )
    assert found.kl_reference_candidate.mean == pytest.approx(
        -found.reference_entropy.mean - found.recall.mean, abs=1e-9
    )
    swapped = compare(candidate=Scored(c, d), reference=Scored(a, b))
    assert (swapped.precision, swapped.recall) == (found.recall, found.precision)
    assert (swapped.candidate_entropy, swapped.reference_entropy) == (found.reference_entropy, found.candidate_entropy)


def test_a_divergence_that_is_negative_beyond_chance_stops():
    own = np.random.default_rng(0).normal(-30, 2, 200)
    fine, wrong = Scored(own, own - 1), Scored(own, own + np.random.default_rng(1).normal(1, 1, 200))
    compare(candidate=fine, reference=fine)
    with pytest.raises(GateError, match=r"KL\(q\|\|p\) comes out at -"):
        compare(candidate=wrong, reference=fine)


def test_a_distribution_against_itself_diverges_by_nothing():
    found = precision_recall(reference=three_tokens(), candidate=three_tokens(), n=50, key=KEY)
    for estimate in (found.kl_candidate_reference, found.kl_reference_candidate):
        assert (estimate.mean, estimate.stderr) == (0.0, 0.0)
    assert found.precision.mean == -found.candidate_entropy.mean


@pytest.mark.parametrize("by", [Temperature(0.5), Power(3), Temperature(2.0)], ids=str)
def test_estimates_agree_with_enumeration(by):
    p, q = three_tokens(), three_tokens().select(by)
    exact_p, exact_q = enumerate_lm(p), enumerate_lm(q)
    truth = {
        "precision": exact_q.mean(exact_p.log_prob),
        "recall": exact_p.mean(exact_q.log_prob),
        "candidate_entropy": exact_q.entropy,
        "reference_entropy": exact_p.entropy,
        "kl_candidate_reference": exact_q.mean(exact_q.log_prob - exact_p.log_prob),
        "kl_reference_candidate": exact_p.mean(exact_p.log_prob - exact_q.log_prob),
    }
    found = precision_recall(reference=p, candidate=q, n=4000, key=KEY)
    for name, value in truth.items():
        estimate = getattr(found, name)
        assert abs(estimate.mean - value) < 4.5 * estimate.stderr, (name, estimate, value)
        assert estimate.stderr < 0.1


def test_estimates_agree_with_the_closed_form_for_gaussians():
    def gaussian(mean: float, variance: float) -> GaussianMixture:
        return GaussianMixture.of(weights=[1.0], means=[[mean]], covariances=[[variance]])

    found = precision_recall(reference=gaussian(0, 4), candidate=gaussian(1, 1), n=4000, key=KEY)
    half_log = 0.5 * math.log(2 * math.pi)
    truth = {
        "precision": -half_log - 0.5 * math.log(4) - (1 + 1) / 8,
        "recall": -half_log - (4 + 1) / 2,
        "candidate_entropy": half_log + 0.5,
        "reference_entropy": half_log + 0.5 * math.log(4) + 0.5,
        "kl_candidate_reference": math.log(2) + 2 / 8 - 0.5,
        "kl_reference_candidate": -math.log(2) + 5 / 2 - 0.5,
    }
    for name, value in truth.items():
        estimate = getattr(found, name)
        assert abs(estimate.mean - value) < 4.5 * estimate.stderr, (name, estimate, value)


def test_recall_of_a_truncated_candidate_is_infinite_and_says_where():
    q = three_tokens().select(TopK(1))
    found = precision_recall(reference=three_tokens(), candidate=q, n=40, key=KEY)
    draws = three_tokens().sample(40, KEY.child("reference"))
    outside = np.flatnonzero(np.isneginf(q.log_prob(draws).numpy()))
    assert 10 < len(outside) < 40
    for estimate in (found.recall, found.kl_reference_candidate):
        assert (estimate.mean, estimate.infinite, estimate.infinite_at) == (
            None,
            len(outside),
            tuple(outside[:10].tolist()),
        )
    assert found.precision.mean is not None
    assert json.loads(json.dumps(document_of(found.quantities()), allow_nan=False))["recall"]["infinite"] == len(
        outside
    )
    assert set(found.quantities()) == {*ESTIMATES, "delta_precision", "delta_recall"}


@pytest.mark.parametrize(
    ("own", "other", "says"),
    [
        ([-1.0, -math.inf], [-1.0, -1.0], "draw 1 has log-probability -inf under the distribution that made it"),
        ([-1.0, math.nan], [-1.0, -1.0], "draw 1 .* not a number"),
        ([-1.0, -1.0], [math.nan, -1.0], "draw 0 .* not a number"),
    ],
)
def test_broken_scores_are_named_and_refused(own, other, says):
    with pytest.raises(GateError, match=says):
        Scored(np.array(own), np.array(other))


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_too_few_draws(n):
    with pytest.raises(UsageError, match=f"n is {n}"):
        precision_recall(reference=three_tokens(), candidate=three_tokens(), n=n, key=KEY)


@given(st.floats(-1e4, 0), st.floats(-1e4, 0), st.floats(0, 99.999))
def test_the_sampler_check_is_undecided_where_it_could_not_tell(total, expected, variance):
    assert sampler_z(total, expected, variance) == "undecided"
    assert require_sampler("undecided", "x") == "undecided"


@given(st.floats(-1e4, 0), st.floats(-1e4, 0), st.floats(100, 1e6))
def test_z_is_a_standardised_deviation(total, expected, variance):
    assert sampler_z(total, expected, variance) == pytest.approx((total - expected) / variance**0.5)


@pytest.mark.parametrize(
    ("z", "cause"), [(4.01, "too likely"), (-4.01, "too unlikely"), (math.inf, "too likely"), (math.nan, "nan")]
)
def test_the_sampler_gate_stops(z, cause):
    with pytest.raises(GateError, match=cause):
        require_sampler(z, "x")


@pytest.mark.parametrize("z", [0.0, 4.0, -4.0, 3.99])
def test_the_sampler_gate_lets_pass(z):
    assert require_sampler(z, "x") == z


RECORDED = np.log(np.random.default_rng(0).dirichlet(np.ones(50), 8).reshape(-1)).astype(np.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("rescored", "dtype"),
    [
        (RECORDED[:-1], "float32"),
        (np.concatenate([RECORDED, RECORDED[:1]]), "float32"),
        (RECORDED / 0.9, "bfloat16"),
        (RECORDED + np.float32(0.2), "bfloat16"),
        (RECORDED + np.float32(0.04), "float16"),
        (RECORDED + np.float32(0.04), "float32"),
        (RECORDED + np.float32(2e-4), "float32"),
        (np.where(np.arange(400) == 7, np.nan, RECORDED), "bfloat16"),
        (np.where(np.arange(400) % 100 == 7, -np.inf, RECORDED), "bfloat16"),
    ],
    ids=[
        "a token dropped",
        "a token added",
        "temperature",
        "far off",
        "bfloat16 as float16",
        "bfloat16 as float32",
        "loose",
        "nan",
        "outside",
    ],
)
def test_the_paired_gate_stops(rescored, dtype):
    with pytest.raises(GateError, match="x"):
        require_paired(RECORDED, rescored.astype(np.float32), dtype, "x")


def test_one_token_at_the_border_of_a_truncation_is_no_fault():
    require_paired(RECORDED, np.where(np.arange(400) == 7, -np.inf, RECORDED).astype(np.float32), "bfloat16", "x")


@pytest.mark.parametrize("dtype", PAIRED_TOLERANCE)
def test_the_paired_gate_lets_rounding_pass(dtype):
    noise = np.random.default_rng(1).standard_normal(400) * PAIRED_TOLERANCE[dtype] / 2
    require_paired(RECORDED, (RECORDED + noise).astype(np.float32), dtype, "x")


@pytest.mark.parametrize("by", [Temperature(0.9), TopK(2)], ids=str)
def test_draws_of_another_selectivity_meet_a_gate(by):
    """One by one: their own recorded numbers betray them to the paired gate, the totals to the sampler gate."""
    told, used = three_tokens(6), three_tokens(6).select(by)
    draws = used.sample(3000, KEY)
    score, _ = told.score(draws)
    with pytest.raises(GateError, match="another model, dtype, temperature"):
        score.check(draws, dtype="float32", whose="x")
    with pytest.raises(GateError, match="too likely"):
        check_draws(
            score.log_prob,
            rescored=score.log_prob,
            expected=score.expected,
            variance=score.variance,
            dtype="float32",
            whose="x",
        )
    honest = used.score(draws)[0].check(draws, dtype="float32", whose="x")
    assert isinstance(honest, float)
    assert torch.from_numpy(draws.sum_per_sequence(draws.log_prob)).allclose(used.log_prob(draws), atol=1e-5)
