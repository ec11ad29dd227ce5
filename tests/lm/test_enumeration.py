"""Against every sequence there is: sums, frequencies, and what is said of them."""

import numpy as np
import pytest
import torch
from scipy import stats

from distilscope.distribution import Key
from distilscope.evaluation.gates import sampler_z
from distilscope.evaluation.precision_recall import precision_recall
from distilscope.lm.causal_lm import CausalLM, PromptedLM
from distilscope.lm.models.llama import Llama
from distilscope.selectivity import UNCHANGED, Chain, MinP, Power, Selectivity, Temperature, TopK, TopP
from fake_models import TINY, Enumerated, enumerate_lm, pack, random_table, three_tokens, tiny_llama

MODELS = {
    "three tokens": three_tokens,
    "a table with two stopping ids": lambda: CausalLM(random_table(5, 4, seed=3), frozenset([0, 4])).after(
        (2, 1), horizon=4
    ),
    "Llama": lambda: CausalLM(tiny_llama(), frozenset([0])).after((1,), horizon=4),
    "untied Llama after a longer prompt": lambda: CausalLM(
        tiny_llama(1, tied=False, num_kv_heads=4), frozenset([2])
    ).after((1, 3, 4), horizon=4),
}
SELECTIVITIES = [
    Temperature(1.0),
    Temperature(0.7),
    Temperature(1.6),
    TopK(2),
    TopP(0.8),
    MinP(0.3),
    Chain((Temperature(0.8), TopK(3), TopP(0.9))),
    Power(float("inf")),
]

every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
every_selectivity = pytest.mark.parametrize("by", SELECTIVITIES, ids=str)

_known: dict[tuple[str, str], tuple[PromptedLM, Enumerated]] = {}


def exactly(make, by: Selectivity = UNCHANGED) -> tuple[PromptedLM, Enumerated]:
    name = (next(name for name, value in MODELS.items() if value is make), str(by))
    if name not in _known:
        lm = make().select(by)
        _known[name] = lm, enumerate_lm(lm)
    return _known[name]


def all_of(lm: PromptedLM, exact: Enumerated):
    return pack(exact.rows, exact.ended, lm.prompts[0], lm.model.network.vocabulary)


def test_the_llama_is_neither_uniform_nor_a_point_mass():
    _, exact = exactly(MODELS["Llama"])
    assert len(exact.rows) == 1 + 4 + 16 + 64 + 256
    assert 2 < exact.entropy < 0.93 * np.log(len(exact.rows))
    assert TINY.vocab_size == 5


@every_model
@every_selectivity
def test_probabilities_of_all_sequences_sum_to_one(make, by):
    lm, exact = exactly(make, by)
    log_prob = lm.log_prob(all_of(lm, exact))
    assert float(log_prob.exp().sum()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(log_prob.numpy(), exact.log_prob, atol=3e-5)


@every_model
@every_selectivity
def test_moments_of_the_next_token_are_exact(make, by):
    """Expectation and variance of log q(v) at each position, 0 log 0 = 0 outside a truncated support."""
    lm, exact = exactly(make, by)
    inside = np.flatnonzero(exact.prob > 0)
    scores, _ = lm.score(all_of(lm, exact).take(inside))
    np.testing.assert_allclose(scores.expected, np.concatenate([exact.expected[i] for i in inside]), atol=1e-5)
    np.testing.assert_allclose(scores.variance, np.concatenate([exact.variance[i] for i in inside]), atol=2e-5)


def frequencies(lm: PromptedLM, exact: Enumerated, n: int, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Observed and expected counts, sequences expected fewer than 8 times put together."""
    index = exact.index()
    counts = np.bincount([index[tuple(row.tolist())] for row in lm.sample(n, key)], minlength=len(exact.rows))
    expected = n * exact.prob
    assert counts[expected == 0].sum() == 0
    rare = expected < 8
    if not rare.any():
        return counts, expected
    return np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())


@every_model
@every_selectivity
def test_draws_come_as_often_as_their_probability(make, by):
    lm, exact = exactly(make, by)
    counts, expected = frequencies(lm, exact, 6000, Key(11, (str(by),)))
    if len(counts) > 1 and expected[-1] > 0:
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.001
    else:
        assert counts.sum() == 6000


def test_another_temperature_would_have_been_noticed():
    lm, _ = exactly(MODELS["Llama"], Temperature(0.7))
    _, wrong = exactly(MODELS["Llama"])
    assert stats.chisquare(*frequencies(lm, wrong, 6000, Key(12))).pvalue < 1e-6


@every_model
@every_selectivity
def test_what_is_recorded_while_drawing_is_the_score_and_the_truth(make, by):
    lm, exact = exactly(make, by)
    draws = lm.sample(300, Key(13))
    scores, _ = lm.score(draws)
    np.testing.assert_allclose(draws.log_prob, scores.log_prob, atol=1e-5)
    index = exact.index()
    rows = [index[tuple(row.tolist())] for row in draws]
    np.testing.assert_allclose(draws.sum_per_sequence(draws.log_prob), exact.log_prob[rows], atol=3e-5)
    assert draws.ended.tolist() == [exact.ended[i] for i in rows]
    assert scores.check(draws, dtype="float32", whose="x") is not None


def test_the_sampler_check_is_standard_normal_over_repetitions():
    lm = CausalLM(random_table(4, 5, seed=5), frozenset([0])).after((1,), horizon=5)
    found = []
    for i in range(200):
        draws = lm.sample(120, Key(i, ("z",)))
        scores, _ = lm.score(draws)
        found.append(
            sampler_z(*(float(np.sum(v, dtype=np.float64)) for v in (draws.log_prob, scores.expected, scores.variance)))
        )
    assert all(isinstance(z, float) for z in found)
    assert stats.kstest(found, "norm").pvalue > 0.01
    assert np.std(found) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", ["three tokens", "Llama"])
@pytest.mark.parametrize("by", [Temperature(0.7), Temperature(1.6)], ids=str)
def test_six_estimates_agree_with_the_exact_values(name, by):
    (p, exact_p), (q, exact_q) = exactly(MODELS[name]), exactly(MODELS[name], by)
    found = precision_recall(reference=p, candidate=q, n=3000, key=Key(17))
    log_p, log_q = exact_p.log_prob, exact_q.log_prob
    truth = {
        "precision": exact_q.mean(log_p),
        "recall": exact_p.mean(log_q),
        "candidate_entropy": exact_q.entropy,
        "reference_entropy": exact_p.entropy,
        "kl_candidate_reference": exact_q.mean(log_q - log_p),
        "kl_reference_candidate": exact_p.mean(log_p - log_q),
    }
    for estimate, value in ((getattr(found, key), value) for key, value in truth.items()):
        assert abs(estimate.mean - value) < 4.5 * estimate.stderr
    if by.tau < 1:  # what selectivity does: precision up, recall down
        assert found.precision.mean > -found.reference_entropy.mean > found.recall.mean


def test_a_different_student_of_the_same_shape():
    p, exact_p = exactly(MODELS["Llama"])
    q = CausalLM(tiny_llama(8), frozenset([0])).after((1,), horizon=4)
    exact_q = enumerate_lm(q)
    found = precision_recall(reference=p, candidate=q, n=3000, key=Key(18))
    assert abs(found.precision.mean - exact_q.mean(exact_p.log_prob)) < 4.5 * found.precision.stderr
    assert abs(found.recall.mean - exact_p.mean(exact_q.log_prob)) < 4.5 * found.recall.stderr
    assert found.kl_reference_candidate.mean > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_draws_follow_what_scores_them(dtype):
    """Not the float32 model, but itself: the gates compare like with like."""
    weights = tiny_llama(2).to_hf()
    lm = CausalLM(Llama.from_hf(TINY, weights, dtype), frozenset([0])).after((1, 2), horizon=8)
    draws = lm.sample(400, Key(19))
    z = lm.score(draws)[0].check(draws, dtype=str(dtype).removeprefix("torch."), whose="x")
    assert isinstance(z, float)
    exact = enumerate_lm(CausalLM(tiny_llama(2), frozenset([0])).after((1, 2), horizon=3))
    short = CausalLM(Llama.from_hf(TINY, weights, dtype), frozenset([0])).after((1, 2), horizon=3)
    total = short.log_prob(pack(exact.rows, exact.ended, (1, 2), 5)).exp().sum()
    assert float(total) == pytest.approx(1, abs=2e-2)
