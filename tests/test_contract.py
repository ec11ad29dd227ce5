"""What every distribution promises, whatever it is over."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch

from distilscope.distribution import Distribution, Key
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.sequences import Sequences
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.selectivity import Chain, MinP, Power, Temperature, TopK, TopP
from fake_models import THREE, random_table, three_tokens, tiny_llama, uniform_lm

DISTRIBUTIONS = {
    # components far apart, so that the entropy of the draws is that of the choice of component and a constant
    "mixture": lambda: GaussianMixture.of(
        weights=[0.1, 0.2, 0.3, 0.4], means=[[0.0], [50.0], [100.0], [150.0]], covariances=[[1.0]] * 4
    ),
    "mixture in 3-D": lambda: GaussianMixture.of(
        weights=[0.7, 0.3], means=[[0.0] * 3, [40.0] * 3], covariances=[[0.5] * 3, [1.0] * 3]
    ),
    "three-token model": three_tokens,
    "table that never stops": lambda: CausalLM(random_table(7, 3, seed=1), frozenset()).after((2,), horizon=5),
    "uniform model": lambda: CausalLM(uniform_lm(6), frozenset([0])).after((1,), horizon=3),
    "one token after a long prompt": lambda: CausalLM(THREE, frozenset([0, 2])).after((1, 1, 2), horizon=1),
    "tiny Llama": lambda: CausalLM(tiny_llama(), frozenset([0])).after((1, 3), horizon=6),
}
SELECTIVITIES = [Temperature(0.5), Power(2), TopK(1), TopP(0.6), MinP(0.5), Chain((Temperature(0.7), TopK(2)))]

every_distribution = pytest.mark.parametrize("make", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


def same(a: Sequences | torch.Tensor, b: Sequences | torch.Tensor) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    arrays = ("ids", "lengths", "ended", "log_prob")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays) and (a.prompts, a.vocabulary) == (
        b.prompts,
        b.vocabulary,
    )


@every_distribution
def test_draws_are_a_function_of_the_key(make):
    one, other = make(), make()
    assert isinstance(one, Distribution)
    draws = one.sample(40, Key(0, ("a",)))
    assert len(draws) == 40
    assert same(draws, one.sample(40, Key(0, ("a",))))
    assert same(draws, other.sample(40, Key(0, ("a",))))
    assert not same(draws, one.sample(40, Key(0, ("b",))))
    assert not same(draws, one.sample(40, Key(1, ("a",))))
    assert len(one.sample(1, Key(0))) == 1


@every_distribution
def test_own_draws_have_finite_log_probability(make):
    for by in (Temperature(1), *SELECTIVITIES):
        distribution = make().select(by)
        log_prob = distribution.log_prob(distribution.sample(30, Key(2)))
        assert log_prob.shape == (30,)
        assert bool(log_prob.isfinite().all()), by


@every_distribution
def test_log_prob_is_of_each_draw_alone(make):
    distribution = make()
    draws = distribution.sample(12, Key(3))
    rows = np.array([7, 0, 11, 3])
    some = draws.take(rows) if isinstance(draws, Sequences) else draws[torch.from_numpy(rows)]
    torch.testing.assert_close(
        distribution.log_prob(some), distribution.log_prob(draws)[torch.from_numpy(rows)], atol=1e-5, rtol=1e-5
    )


@every_distribution
@pytest.mark.parametrize("by", SELECTIVITIES, ids=str)
def test_selecting_makes_a_new_value_and_leaves_the_old_one(make, by):
    distribution = make()
    draws, before = distribution.sample(10, Key(4)), copy.deepcopy(distribution)
    log_prob = distribution.log_prob(draws)
    selected = distribution.select(by)
    selected.sample(3, Key(0))
    assert selected is not distribution
    assert type(selected) is type(distribution)
    assert torch.equal(distribution.log_prob(draws), log_prob)
    assert same(distribution.sample(10, Key(4)), before.sample(10, Key(4)))


@every_distribution
def test_temperature_one_is_the_identity(make):
    distribution = make()
    draws = distribution.sample(20, Key(5))
    for by in (Temperature(1), Power(1), Chain((Temperature(1), Power(1)))):
        torch.testing.assert_close(
            distribution.select(by).log_prob(draws), distribution.log_prob(draws), atol=1e-6, rtol=1e-6
        )
        assert same(distribution.select(by).sample(20, Key(5)), draws)


@every_distribution
def test_selectivities_compose(make):
    distribution = make()
    draws = distribution.sample(20, Key(6))
    twice = distribution.select(Temperature(0.8)).select(Temperature(0.5))
    torch.testing.assert_close(
        twice.log_prob(draws), distribution.select(Temperature(0.4)).log_prob(draws), atol=1e-5, rtol=1e-5
    )


@every_distribution
def test_entropy_does_not_rise_as_temperature_falls(make):
    """Minus the mean log-probability of own draws, under common random numbers."""

    def entropy(tau: float) -> float:
        distribution = make().select(Temperature(tau))
        return -float(distribution.log_prob(distribution.sample(1000, Key(7))).mean())

    found = [entropy(tau) for tau in (2.0, 1.0, 0.6, 0.3, 0.05)]
    assert all(colder <= warmer + 0.03 for warmer, colder in pairwise(found)), found
