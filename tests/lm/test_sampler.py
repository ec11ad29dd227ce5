import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from distilscope.distribution import Key
from distilscope.lm import sampler
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.sampler import invert_cdf
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import UNCHANGED, Power, Selectivity, Temperature, TopK
from fake_models import TableLM, random_table, tiny_llama, uniform_lm

KEY = Key(0, ("sampler",))
LAST = np.nextafter(1.0, 0.0)


def draw(network, *, draws=40, slots=8, key=KEY, horizon=6, stopping=(0,), prompt=(1,), by: Selectivity = UNCHANGED) -> Sequences:
    return sampler.draw(
        network,
        prompts=(prompt,),
        prompt_of=np.zeros(draws, dtype=np.int64),
        horizon=horizon,
        stopping=frozenset(stopping),
        selectivity=by,
        slots=slots,
        key=key,
    )


def content(sequences: Sequences) -> tuple:
    return (
        sequences.ids.tobytes(),
        sequences.ids.dtype,
        sequences.lengths.tobytes(),
        sequences.ended.tobytes(),
        sequences.log_prob.tobytes(),
    )


TABLE = random_table(5, 6, seed=2)


@pytest.mark.parametrize("make", [lambda: random_table(5, 6, seed=2), tiny_llama], ids=["table", "Llama"])
def test_a_tile_is_a_function_of_its_key_and_shape(make):
    first = draw(make())
    draw(make(), key=Key(5), draws=3)  # whatever happened before
    assert content(draw(make())) == content(first)
    assert content(draw(make(), key=Key(0, ("other",)))) != content(first)


@pytest.mark.parametrize("slots", [1, 3, 7, 39, 40, 1000])
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in waves"])
def test_a_draw_does_not_depend_on_the_slot_that_makes_it(slots, together):
    network = TableLM(TABLE.table, restarts_one_by_one=not together)
    assert content(draw(network, slots=slots)) == content(draw(TABLE, slots=40))
    assert network.widths == [min(slots, 40)]


def test_the_first_draws_of_more_are_not_other_draws_of_the_llama():
    """Slots of a real network agree to rounding; its ids here to the letter."""
    network = tiny_llama()
    wide, narrow = draw(network, slots=40), draw(network, slots=3)
    np.testing.assert_array_equal(wide.ids, narrow.ids)
    np.testing.assert_allclose(wide.log_prob, narrow.log_prob, atol=1e-5)


def test_a_slot_whose_sequence_ended_takes_the_next_draw():
    """Fewest steps possible for this many tokens: no slot idles while draws wait."""
    steps = []

    class Counting(TableLM):
        def decoder(self, prompts, slots, horizon):
            steps.append(super().decoder(prompts, slots, horizon))
            return steps[-1]

    stop_often = np.full((1, 4, 4), 0.2)
    stop_often[..., 0] = 0.4
    found = draw(Counting(stop_often), draws=200, slots=10, horizon=20)
    assert set(found.lengths[found.ended]) >= {1, 2, 3, 4}
    assert steps[0].steps <= math.ceil(found.lengths.sum() / 10) + 20


def test_lengths_and_endings():
    found = draw(TABLE, draws=300, horizon=3)
    for row, ended in zip(found, found.ended, strict=True):
        assert (0 in row[:-1]) is False, "nothing follows a stopping token"
        assert bool(ended) == (row[-1] == 0)
        assert len(row) == 3 or ended
    assert len(found.log_prob) == len(found.ids) == found.lengths.sum()
    assert 0 < found.ended.sum() < 300


@pytest.mark.parametrize(
    ("stopping", "all_end"), [((), False), ((3,), None), ((0, 1, 2, 3, 4), True)], ids=["never stops", "one id", "every id stops"]
)
def test_stopping_sets(stopping, all_end):
    found = draw(TABLE, stopping=stopping, horizon=4)
    np.testing.assert_array_equal(found.ended, [row[-1] in stopping for row in found])
    if all_end is not None:
        assert bool(found.ended.all()) == all_end
        assert set(found.lengths.tolist()) == ({1} if all_end else {4})


def test_horizon_of_one_and_a_stop_in_the_prompt():
    found = draw(TABLE, horizon=1, prompt=(0, 2, 0))
    assert found.lengths.tolist() == [1] * 40
    assert found.prompts == ((0, 2, 0),)
    counts = np.bincount(draw(TABLE, horizon=1, prompt=(0, 2), draws=4000).ids, minlength=5)
    assert stats.chisquare(counts, 4000 * TABLE.table[0, 2]).pvalue > 0.001


def test_longer_prompts_condition_the_llama():
    """A prompt of several tokens gives what its own scores say; another first token another distribution."""
    network = tiny_llama(4, initializer_range=0.4)
    for prompt in ((1,), (1, 2, 3), (4, 2, 3)):
        lm = CausalLM(network, frozenset([0])).after(prompt, horizon=5)
        found = lm.sample(60, KEY)
        np.testing.assert_allclose(found.log_prob, lm.score(found)[0].log_prob, atol=1e-5)
    first = {prompt: draw(network, prompt=prompt, horizon=1, draws=1).log_prob[0] for prompt in ((1, 2, 3), (4, 2, 3))}
    assert len(set(first.values())) == 2


def test_common_random_numbers():
    """One key, two temperatures: the colder draw is the warmer one wherever the inverse allows; here, very often."""
    warm, cold = (draw(TABLE, draws=500, horizon=1, by=Temperature(tau)) for tau in (1.0, 0.95))
    assert np.mean(warm.ids == cold.ids) > 0.9


def test_greedy_and_truncated_draws_stay_inside():
    greedy = draw(TABLE, by=Power(math.inf))
    assert len({tuple(row.tolist()) for row in greedy}) == 1
    assert greedy.log_prob.tolist() == [0.0] * len(greedy.ids)
    two = draw(TABLE, by=TopK(2), draws=400, horizon=1)
    assert set(two.ids.tolist()) == set(np.argsort(-TABLE.table[0, 1])[:2].tolist())


@pytest.mark.parametrize("vocabulary", [2, 255, 256, 257, 300])
def test_ids_are_stored_small(vocabulary):
    found = draw(uniform_lm(vocabulary), stopping=(), draws=50)
    assert found.ids.dtype == (np.uint8 if vocabulary <= 256 else np.uint16)
    np.testing.assert_allclose(found.log_prob, -math.log(vocabulary), atol=1e-5)


# --- the inverse of the cumulative distribution


def oracle(logits: np.ndarray) -> np.ndarray:
    """The upper ends of the tokens' intervals, in float64 and one level, from the same float32 probabilities."""
    probs = torch.from_numpy(logits).softmax(-1).double().numpy()
    return probs.cumsum(-1) / probs.sum(-1, keepdims=True)


weights = st.integers(1, 70).flatmap(
    lambda v: hnp.arrays(np.float32, (3, v), elements=st.one_of(st.floats(-30, 30, width=32), st.just(np.float32(-np.inf))))
)
uniforms = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, LAST, 0.5, 2**-53, 1e-300]))


@given(weights, st.lists(uniforms, min_size=3, max_size=3))
def test_the_inverse_agrees_with_searchsorted(logits, u):
    logits[~np.isfinite(logits).any(-1), 0] = 0.0
    tokens, log_prob = invert_cdf(torch.from_numpy(logits), torch.tensor(u, dtype=torch.float64))
    upper = oracle(logits)
    probs = torch.from_numpy(logits).softmax(-1)
    for i, token in enumerate(tokens):
        assert probs[i, token] > 0
        lower = upper[i, token - 1] if token else 0.0
        assert lower - 1e-6 <= u[i] <= upper[i, token] + 1e-6
        nearest = np.abs(upper[i] - u[i]).min()
        if nearest > 1e-6:  # away from a border, the very same token
            assert token == np.searchsorted(upper[i], u[i], side="right")
    np.testing.assert_allclose(log_prob, torch.from_numpy(logits).log_softmax(-1)[torch.arange(3), torch.from_numpy(tokens)], atol=1e-5)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 100, 1000, 4095, 4096, 4097])
def test_every_size_of_vocabulary(vocabulary):
    u = torch.linspace(0, 1, 257, dtype=torch.float64)[:-1]
    tokens, log_prob = invert_cdf(torch.zeros(256, vocabulary), u)
    np.testing.assert_allclose(tokens, np.floor(u.numpy() * vocabulary), atol=1)
    assert tokens.min() == 0
    assert tokens.max() == min(vocabulary - 1, math.floor(vocabulary * 255 / 256))
    np.testing.assert_allclose(log_prob, -math.log(vocabulary), atol=1e-5)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 10, 65, 300])
def test_a_token_of_probability_zero_is_never_drawn(vocabulary):
    random = np.random.default_rng(vocabulary)
    extremes = torch.tensor([0.0, 5e-324, 2**-60, 0.5, 1 - 2**-30, LAST], dtype=torch.float64)
    for kept in {1, max(1, vocabulary // 2), max(1, vocabulary - 1)}:
        for _ in range(20):
            inside = random.choice(vocabulary, kept, replace=False)
            row = torch.full((vocabulary,), -math.inf)
            row[torch.from_numpy(inside)] = torch.from_numpy(random.normal(0, 5, kept)).float()
            tokens, log_prob = invert_cdf(row.expand(len(extremes), -1), extremes)
            assert set(tokens.tolist()) <= set(inside.tolist())
            assert np.isfinite(log_prob).all()
            assert tokens[0] == inside.min(), "u = 0 gives the first token that has any probability"
            positive = row.softmax(-1).numpy() > 0
            assert tokens[-1] <= np.flatnonzero(positive).max()


def test_monotone_in_u():
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, 777)).float()
    u = torch.linspace(0, 1, 5001, dtype=torch.float64)[:-1]
    tokens, _ = invert_cdf(logits.expand(len(u), -1), u)
    assert (np.diff(tokens) >= 0).all()


def test_a_heavy_tail_over_a_whole_vocabulary():
    """First-token frequencies of 49152 tokens with probabilities ~ 1/rank, most of them rare, in bins of every rank."""
    vocabulary, n = 49_152, 10_000
    random = np.random.default_rng(0)
    logits = torch.from_numpy(-np.log(random.permutation(vocabulary) + 1.0)).float()
    u = torch.from_numpy(KEY.generator().random(n))
    counts = np.zeros(vocabulary)
    for part in u.split(200):
        np.add.at(counts, invert_cdf(logits.expand(len(part), -1), part)[0], 1)
    probs = logits.double().softmax(-1).numpy()
    by_rank = np.array_split(np.argsort(-probs), np.unique(np.geomspace(1, vocabulary, 40).astype(int))[:-1])
    by_id = np.array_split(np.arange(vocabulary), 61)
    for bins in (by_rank, by_id):
        observed = np.array([counts[bin_].sum() for bin_ in bins])
        expected = n * np.array([probs[bin_].sum() for bin_ in bins])
        assert expected.min() > 5
        assert stats.chisquare(observed, expected * n / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize("together", [False, True], ids=["slots begin one by one", "all together"])
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_draws_after_several_prompts_are_those_after_each(slots, together):
    """A draw is a function of its prompt and its row of uniforms; the prompts come in turn."""
    network, prompts = TableLM(TABLE.table, restarts_one_by_one=not together), ((1,), (2, 3), (4,))
    several = sampler.draw(
        network,
        prompts=prompts,
        prompt_of=sampler.in_turn(0, 31, 3),
        horizon=6,
        stopping=frozenset([0]),
        selectivity=UNCHANGED,
        slots=slots,
        key=KEY,
    )
    assert several.prompt_of[:5].tolist() == [0, 1, 2, 0, 1]
    for which, prompt in enumerate(prompts):
        alone = draw(TABLE, draws=31, prompt=prompt)
        mine = np.flatnonzero(several.prompt_of == which)
        assert content(several.take(mine)) == content(alone.take(mine))
    assert sampler.in_turn(31, 2, 3).tolist() == [1, 2]


@torch.inference_mode()
def test_a_llama_draws_after_several_prompts_what_it_scores():
    lm = CausalLM(tiny_llama(4, initializer_range=0.4), frozenset([0])).after((1,), (1, 2, 3), (4, 2), horizon=5)
    found = lm.sample_after(sampler.in_turn(0, 90, 3), KEY, slots=7)
    np.testing.assert_allclose(found.log_prob, lm.score(found)[0].log_prob, atol=1e-5)
    for which, prompt in enumerate(lm.prompts):
        mine = found.take(np.flatnonzero(found.prompt_of == which))
        alone = replace(mine, prompts=(prompt,), prompt_of=np.zeros(len(mine), dtype=np.int32))
        expected = lm.model.after(prompt, horizon=5).log_prob(alone)
        np.testing.assert_allclose(mine.sum_per_sequence(mine.log_prob), expected, atol=1e-4)
