"""Estimators against exact values: unbiased, honest about their error, and less noisy than plain Monte Carlo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilscope.distribution import Key
from distilscope.evaluation.control_variates import FEWEST, Mean
from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.precision_recall import PrecisionRecall, Scored, compare
from distilscope.lm.causal_lm import CausalLM, PromptedLM
from distilscope.selectivity import UNCHANGED, Selectivity, Temperature
from fake_models import enumerate_lm, random_table

REPETITIONS, N = 300, 80


def lm(seed: int, by: Selectivity = UNCHANGED) -> PromptedLM:
    return CausalLM(random_table(4, 4, seed=seed), frozenset([0])).select(by).after((1,), horizon=4)


def exact(p: PromptedLM, q: PromptedLM) -> dict[str, float]:
    every_p, every_q = enumerate_lm(p), enumerate_lm(q)
    precision, recall = every_q.mean(every_p.log_prob), every_p.mean(every_q.log_prob)
    return {
        "precision": precision,
        "recall": recall,
        "candidate_entropy": every_q.entropy,
        "reference_entropy": every_p.entropy,
        "kl_candidate_reference": -every_q.entropy - precision,
        "kl_reference_candidate": -every_p.entropy - recall,
        "precision_gain": precision + every_p.entropy,
        "recall_gain": recall + every_p.entropy,
    }


def scored(side: PromptedLM, other: PromptedLM, n: int, key: Key) -> Scored:
    draws = side.sample(n, key)
    own, (theirs,) = side.score(draws, other)
    (own_total, own_deviation), (other_total, other_deviation) = own.totals(draws), theirs.totals(draws)
    return Scored(own_total, other_total, own_deviation, other_deviation)


def parts(whole: Scored, size: int, *, controlled: bool) -> list[Scored]:
    names = ("own", "other", "own_deviation", "other_deviation") if controlled else ("own", "other")
    return [
        Scored(**{name: getattr(whole, name)[start : start + size] for name in names})
        for start in range(0, len(whole.own), size)
    ]


PAIRS = {
    "a sharper self": (lm(0), lm(0, Temperature(0.6))),
    "another model": (lm(0), lm(1)),
    "a blurred one": (lm(2), lm(3, Temperature(1.5))),
}
_found: dict[tuple[str, bool], list[PrecisionRecall]] = {}


def repeated(name: str, controlled: bool) -> list[PrecisionRecall]:
    """Independent measurements of a pair, `N` draws of each side."""
    if (name, controlled) not in _found:
        p, q = PAIRS[name]
        sides = [scored(q, p, REPETITIONS * N, Key(1)), scored(p, q, REPETITIONS * N, Key(2))]
        for with_controls in (True, False):
            candidates, references = (parts(side, N, controlled=with_controls) for side in sides)
            _found[name, with_controls] = [
                compare(candidate=c, reference=r) for c, r in zip(candidates, references, strict=True)
            ]
    return _found[name, controlled]


QUANTITIES = list(exact(*PAIRS["another model"]))
every_pair = pytest.mark.parametrize("name", PAIRS)
either_way = pytest.mark.parametrize("controlled", [True, False], ids=["with controls", "plain"])


@every_pair
@either_way
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_unbiased_with_honest_intervals(name, controlled, quantity):
    truth = exact(*PAIRS[name])[quantity]
    found: list[Estimate] = [getattr(one, quantity) for one in repeated(name, controlled)]
    means, errors = (np.array([getattr(one, field) for one in found]) for field in ("mean", "stderr"))
    assert abs(means.mean() - truth) < 3 * means.std(ddof=1) / np.sqrt(REPETITIONS)
    assert 0.90 <= np.mean(np.abs(means - truth) <= 1.96 * errors) <= 0.99


@every_pair
def test_controls_take_noise_away_from_the_divergences(name):
    for quantity in ("kl_candidate_reference", "kl_reference_candidate"):
        plain, controlled = (
            [getattr(one, quantity).mean for one in repeated(name, with_controls)] for with_controls in (False, True)
        )
        assert np.var(controlled) < 0.9 * np.var(plain)


@every_pair
def test_what_holds_between_sums_holds_between_estimates(name):
    for one in repeated(name, True):
        assert one.kl_candidate_reference.mean == pytest.approx(
            -one.candidate_entropy.mean - one.precision.mean, abs=1e-9
        )
        assert one.kl_reference_candidate.mean == pytest.approx(-one.reference_entropy.mean - one.recall.mean, abs=1e-9)
        assert one.recall_gain.mean == -one.kl_reference_candidate.mean


def test_a_model_against_itself_has_equal_controls_and_no_divergence():
    found = scored(lm(0), lm(0), 200, Key(3))
    assert found.divergence.mean == pytest.approx(0, abs=1e-6)


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_weights_sum_to_one_and_plain_means_stay_plain(n, seed):
    random = np.random.default_rng(seed)
    values, controls = random.normal(size=n), [random.normal(size=n), np.full(n, np.nan)]
    mean = Mean(n, controls=controls)
    assert mean.weights.sum() == pytest.approx(1)
    if n < FEWEST:
        plain, found = Estimate.of(values), mean.estimate(values)
        assert (found.mean, found.stderr) == (pytest.approx(plain.mean), pytest.approx(plain.stderr))


def test_a_value_that_is_a_control_has_no_error_left():
    control = np.random.default_rng(0).normal(size=100)
    found = Mean(100, controls=[control]).estimate(3 + 2 * control)
    assert found.mean == pytest.approx(3)
    assert found.stderr == pytest.approx(0, abs=1e-9)


def test_infinite_values_are_counted_not_averaged():
    values = np.array([1.0] * 40 + [-np.inf])
    assert Mean(41, controls=[np.arange(41.0) - 20]).estimate(values) == Estimate.of(values)


def test_draws_of_one_cluster_are_not_counted_as_independent():
    """Each of 400 clusters of 5 equal values counts once; the intervals then cover, where those of independent draws
    would not."""
    random, covered, naive = np.random.default_rng(0), [], []
    clusters = np.repeat(np.arange(40), 5)
    for _ in range(400):
        values = np.repeat(random.normal(size=40), 5)
        for found, into in (
            (Mean(200, clusters=clusters).estimate(values), covered),
            (Mean(200).estimate(values), naive),
        ):
            into.append(abs(found.mean) <= 1.96 * found.stderr)
    assert 0.90 <= np.mean(covered) <= 0.99
    assert np.mean(naive) < 0.75


def test_sides_that_follow_the_same_prompts_have_errors_that_go_together():
    """A prompt's own level is in both sides' log-probabilities under p, and cancels in what precision gains on p's own
    draws."""
    random, covered, errors, alone = np.random.default_rng(0), [], [], []
    prompts = np.tile(np.arange(40), 5)
    for _ in range(400):
        level = 10 * random.normal(size=40)[prompts]
        q = Scored(np.full(200, -1.0), -50 + level + random.normal(size=200), clusters=prompts)
        p = Scored(-52 + level + random.normal(size=200), np.full(200, -60.0), clusters=prompts)
        found = compare(candidate=q, reference=p, one_space=False)
        covered.append(abs(found.precision_gain.mean - 2) <= 1.96 * found.precision_gain.stderr)
        errors.append(found.precision_gain.stderr)
        alone.append(found.precision.stderr)
        assert found.per(2.0).precision_gain.stderr == pytest.approx(found.precision_gain.stderr / 2)
    assert 0.90 <= np.mean(covered) <= 0.99
    assert np.mean(errors) < 0.1 * np.mean(alone)


def test_one_cluster_is_none():
    values = np.random.default_rng(0).normal(size=50)
    assert Mean(50, clusters=np.zeros(50, dtype=int)).estimate(values) == Mean(50).estimate(values)
