import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilscope.distribution import Key
from distilscope.lm import scoring
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models import llama
from distilscope.lm.network import PIECE, Next
from distilscope.lm.scoring import batches_of_like_length, log_prob, score
from distilscope.lm.sequences import Prompts
from distilscope.selectivity import UNCHANGED, Temperature, TopK
from fake_models import TableDecoder, TableLM, ragged, random_table, tiny_llama, to_transformers, uniform_lm

LENGTHS = [4, 1, 7, 7, 2, 9, 3]


def plain_log_probs(network, sequences, by=UNCHANGED) -> np.ndarray:
    model, context, found = to_transformers(network), len(sequences.prompts[0]), []
    for row in sequences:
        ids = torch.tensor([[*sequences.prompts[0], *row.tolist()]])
        with torch.inference_mode():
            log_q = by(model(ids).logits[0, context - 1 : -1]).log_softmax(-1)
        found.append(log_q.gather(-1, ids[0, context:, None])[:, 0].numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("prompt", [(1,), (3, 3, 0)], ids=["prompt of one", "prompt of three"])
def test_scores_are_those_of_a_plain_forward_pass(prompt):
    network, sequences = tiny_llama(), ragged(LENGTHS, 5, prompt)
    selectivities = (UNCHANGED, Temperature(0.5), TopK(2))
    _, together = score((network, UNCHANGED), sequences, [(network, by) for by in selectivities])
    for by, scores in zip(selectivities, together, strict=True):
        np.testing.assert_allclose(scores.log_prob, plain_log_probs(network, sequences, by), atol=1e-5)
        np.testing.assert_array_equal(score((network, by), sequences)[0].log_prob, scores.log_prob)
        np.testing.assert_allclose(log_prob((network, by), sequences), scores.log_prob, atol=1e-6)


@pytest.mark.parametrize("most", [1, 8, 20, 10_000])
def test_scores_do_not_depend_on_what_else_is_in_the_batch(most, monkeypatch):
    network, sequences = tiny_llama(), ragged(LENGTHS, 5, (2, 4))
    whole, _ = score((network, UNCHANGED), sequences)
    monkeypatch.setattr(scoring, "BATCH_TOKENS", most)
    parts, _ = score((network, UNCHANGED), sequences)
    order = np.array([3, 6, 0, 1, 5, 2, 4])
    shuffled, _ = score((network, UNCHANGED), sequences.take(order))
    for name in ("log_prob", "expected", "variance"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-5)
        per_row = np.split(getattr(whole, name), sequences.offsets[1:-1])
        np.testing.assert_allclose(getattr(shuffled, name), np.concatenate([per_row[i] for i in order]), atol=1e-5)


def test_moments_of_the_uniform_model():
    scores, _ = score((uniform_lm(8), UNCHANGED), ragged(LENGTHS, 8))
    np.testing.assert_allclose(scores.log_prob, -np.log(8), rtol=1e-6)
    np.testing.assert_allclose(scores.expected, -np.log(8), rtol=1e-6)
    np.testing.assert_allclose(scores.variance, 0, atol=1e-10)


def test_ids_outside_a_truncated_support_have_probability_zero():
    network, sequences = random_table(6, 3, seed=0), ragged([5] * 20, 6)
    whole, _ = score((network, UNCHANGED), sequences)
    two, _ = score((network, TopK(2)), sequences)
    outside = np.isneginf(two.log_prob)
    assert 0 < outside.mean() < 1
    assert (two.log_prob[~outside] >= whole.log_prob[~outside]).all()
    assert np.isfinite(two.expected).all()
    assert np.isfinite(two.variance).all()


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=np.int32))


@given(lengths, st.integers(0, 5), st.integers(1, 200))
def test_batches_hold_every_row_once_and_no_more_than_allowed(lengths, context, most):
    batches = list(batches_of_like_length(lengths + context, most))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * (lengths[rows].max() + context) <= most
    longest = [lengths[rows].max() for rows in batches]
    assert longest == sorted(longest, reverse=True)


def test_little_is_padded():
    lengths = np.random.default_rng(0).integers(1, 257, 2000)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches_of_like_length(lengths, scoring.BATCH_TOKENS))
    assert 1 <= padded / lengths.sum() < 1.1


def test_the_whole_vocabulary_exists_for_a_piece_at_a_time(monkeypatch):
    table = random_table(4, 2, seed=1)
    score((table, UNCHANGED), ragged([50] * 30, 4))
    assert sum(table.pieces) == 1500
    assert max(table.pieces) <= PIECE

    seen: list[int] = []
    plain = llama.Llama.scores
    monkeypatch.setattr(llama.Llama, "scores", lambda self, hidden: (seen.append(len(hidden)), plain(self, hidden))[1])
    network, sequences = tiny_llama(), ragged([40] * 20, 5, (1, 2))
    whole, _ = score((network, UNCHANGED), sequences)
    assert sum(seen) == 800
    assert max(seen) <= PIECE
    monkeypatch.setattr(llama, "PIECE", 7)
    seen.clear()
    pieces, _ = score((network, UNCHANGED), sequences)
    assert max(seen) == 7
    np.testing.assert_allclose(pieces.log_prob, whole.log_prob, atol=1e-5)


class RoundedDecoder(TableDecoder):
    """Its logits differ by a few hundredths from those of a whole pass, as bfloat16's do."""

    def step(self, slots: np.ndarray, tokens: np.ndarray) -> Next:
        logits, rows = super().step(slots, tokens)
        noise = np.random.default_rng(self.steps).normal(0, 0.03, logits.shape).astype(np.float32)
        return logits + torch.from_numpy(noise), rows


class RoundedLM(TableLM):
    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> RoundedDecoder:
        return RoundedDecoder(self, prompts, slots, horizon)


@pytest.mark.parametrize(
    "by",
    [
        Temperature(0.8),
        TopK(20),
    ],
    ids=str,
)
def test_rounding_alone_does_not_stop_a_measurement(by):
    """The recorded support of a truncated distribution is that of its draws."""
    weights = np.exp(-0.2 * np.arange(50))
    network = RoundedLM(np.broadcast_to(weights / weights.sum(), (1, 50, 50)))
    lm = CausalLM(network, frozenset([0])).select(by).after((1,), horizon=10)
    draws = lm.sample(200, Key(0))
    lm.score(draws)[0].check(draws, dtype="bfloat16", whose="x")


def test_other_models_are_scored_in_the_same_pass_and_networks_that_stand_twice_run_once():
    own, other = random_table(6, 3, seed=0), random_table(6, 3, seed=1)
    sequences = ragged([4, 2, 5], 6)
    alone, _ = score((own, UNCHANGED), sequences)
    own.pieces.clear()
    mine, (same, warm, theirs) = score(
        (own, UNCHANGED), sequences, [(own, UNCHANGED), (own, Temperature(0.5)), (other, UNCHANGED)]
    )
    assert sum(own.pieces) == sum(other.pieces) == 11
    for scores in (mine, same):
        np.testing.assert_array_equal(scores.log_prob, alone.log_prob)
        np.testing.assert_allclose(scores.expected, alone.expected, rtol=1e-6)
    for scores, table, by in ((theirs, other.table, 1.0), (warm, own.table, 2.0)):
        previous = np.concatenate([[1, *row[:-1]] for row in sequences])
        at = np.minimum(np.concatenate([np.arange(len(row)) for row in sequences]), 2)
        log_p = by * np.log(table[at, previous])
        log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
        np.testing.assert_allclose(scores.log_prob, log_p[np.arange(11), sequences.ids], atol=1e-5)
        np.testing.assert_allclose(scores.expected, (own.table[at, previous] * log_p).sum(-1), atol=1e-5)


def test_what_the_other_side_cannot_make_has_expectation_minus_infinity():
    network, sequences = random_table(6, 3, seed=0), ragged([5] * 20, 6)
    mine, (two,) = score((network, UNCHANGED), sequences, [(network, TopK(2))])
    assert np.isneginf(two.expected).all()
    assert np.isfinite(mine.expected).all()
    total, deviation = two.totals(sequences)
    assert np.isneginf(total).any()
    assert not np.isfinite(deviation).any()


def test_models_over_different_tokens_are_refused():
    with pytest.raises(ValueError, match="different vocabularies"):
        score((uniform_lm(3), UNCHANGED), ragged([2], 3), [(uniform_lm(4), UNCHANGED)])
