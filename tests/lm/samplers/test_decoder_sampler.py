import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from distilscope.distribution import Key
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.samplers import decoder_sampler
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import UNCHANGED, Power, Selectivity, Temperature, TopK
from fake_models import TableLM, random_table, tiny_llama, uniform_lm

KEY = Key(0, ("sampler",))
LAST = np.nextafter(1.0, 0.0)


def draw(
    network, *, draws=40, slots=8, key=KEY, horizon=6, stopping=(0,), prompt=(1,), by: Selectivity = UNCHANGED
) -> Sequences:
    return decoder_sampler.draw(
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
    assert steps[0].steps <= math.ceil((found.lengths - 1).sum() / 10) + 20


def test_lengths_and_endings():
    found = draw(TABLE, draws=300, horizon=3)
    for row, ended in zip(found, found.ended, strict=True):
        assert (0 in row[:-1]) is False, "nothing follows a stopping token"
        assert bool(ended) == (row[-1] == 0)
        assert len(row) == 3 or ended
    assert len(found.log_prob) == len(found.ids) == found.lengths.sum()
    assert 0 < found.ended.sum() < 300


@pytest.mark.parametrize(
    ("stopping", "all_end"),
    [((), False), ((3,), None), ((0, 1, 2, 3, 4), True)],
    ids=["never stops", "one id", "every id stops"],
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


@pytest.mark.parametrize("together", [False, True], ids=["slots begin one by one", "all together"])
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_draws_after_several_prompts_are_those_after_each(slots, together):
    """A draw is a function of its prompt and its row of uniforms; the prompts come in turn."""
    network, prompts = TableLM(TABLE.table, restarts_one_by_one=not together), ((1,), (2, 3), (4,))
    several = decoder_sampler.draw(
        network,
        prompts=prompts,
        prompt_of=decoder_sampler.in_turn(0, 31, 3),
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
    assert decoder_sampler.in_turn(31, 2, 3).tolist() == [1, 2]


@torch.inference_mode()
def test_a_llama_draws_after_several_prompts_what_it_scores():
    lm = CausalLM(tiny_llama(4, initializer_range=0.4), frozenset([0])).after((1,), (1, 2, 3), (4, 2), horizon=5)
    found = lm.sample_after(decoder_sampler.in_turn(0, 90, 3), KEY, slots=7)
    np.testing.assert_allclose(found.log_prob, lm.score(found)[0].log_prob, atol=1e-5)
    for which, prompt in enumerate(lm.prompts):
        mine = found.take(np.flatnonzero(found.prompt_of == which))
        alone = replace(mine, prompts=(prompt,), prompt_of=np.zeros(len(mine), dtype=np.int32))
        expected = lm.model.after(prompt, horizon=5).log_prob(alone)
        np.testing.assert_allclose(mine.sum_per_sequence(mine.log_prob), expected, atol=1e-4)
