"""Traps on sequences, against Hugging Face's own loss and against hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distilscope.lm.training.loop import held_out_loss
from distilscope.lm.training.objectives.cross_entropy import token_loss
from distilscope.studies.audit.retokenisation import corpus_mean, pad_share, padded, retokenised, without_stops
from fake_models import pack, tiny_llama, to_transformers
from tiny_folders import trained_bpe

BPE = trained_bpe()
END = 0


def spelt(text: str) -> tuple[int, ...]:
    """One token per byte, as a model may well draw it."""
    return tuple(BPE.token_to_id(symbol) for symbol in text.replace(" ", "Ġ"))


def merged(text: str) -> tuple[int, ...]:
    return tuple(BPE.encode(text, add_special_tokens=False).ids)


class TestRetokenised:
    def test_another_spelling_and_the_stopping_token_are_lost(self):
        prompt = merged("The")
        assert len(merged(" student")) < len(spelt(" student"))
        rows = [merged(" student"), spelt(" student"), (*merged(" student"), END)]
        again = retokenised(pack(rows, [False, False, True], prompt, 320), BPE, longest=50)
        assert again.changed.tolist() == [False, True, True]
        assert [tuple(row) for row in again.sequences] == [merged(" student")] * 3
        assert not again.sequences.ended.any()
        assert again.sequences.prompts == (prompt,)

    def test_a_draw_with_nothing_left_counts_as_zero(self):
        draws = pack([(END,), merged(" student")], [True, False], merged("The"), 320)
        again = retokenised(draws, BPE, longest=50)
        assert again.lengths.tolist() == [0, len(merged(" student"))]
        assert again.per_draw(np.ones(len(again.sequences.ids))).tolist() == again.lengths.tolist()

    def test_a_token_may_straddle_the_prompt(self):
        prompt = spelt("h")
        assert len(merged("he")) == 1
        again = retokenised(pack([spelt("e said")], [False], prompt, 320), BPE, longest=50)
        assert again.changed.all()
        assert again.sequences.prompts != (prompt,)
        (context,), (row,) = again.sequences.prompts, again.sequences
        assert (*context, *row.tolist()) == merged("he said")

    def test_is_cut_where_the_context_ends(self):
        again = retokenised(pack([merged(" student listens")], [False], merged("The"), 320), BPE, longest=2)
        assert again.lengths.tolist() == [2]


ROWS = [(3, 4, END), (END,), (2, 2, 3, 1)]
DRAWS = pack(ROWS, [True, True, False], (1,), 5)


class TestWithoutStops:
    def test_no_stopping_token_is_left_to_learn(self):
        left = without_stops(DRAWS)
        assert [tuple(row) for row in left] == [(3, 4), (2, 2, 3, 1)]
        assert END not in left.ids
        assert not left.ended.any()

    def test_is_the_loss_with_stopping_tokens_masked(self):
        network = tiny_llama()
        loss = token_loss(network, DRAWS)
        masked = loss[torch.from_numpy(DRAWS.ids != END)]
        assert token_loss(network, without_stops(DRAWS)).sum() == pytest.approx(float(masked.sum()), rel=1e-5)


class TestPadded:
    @pytest.mark.parametrize("prompt", [(1,), (1, 3)])
    def test_is_the_loss_of_labels_equal_to_padded_ids(self, prompt):
        network = tiny_llama()
        draws = pack(ROWS, [True, True, False], prompt, 5)
        length = len(prompt) + 4
        ids = torch.tensor([[*prompt, *row, *[END] * (4 - len(row))] for row in ROWS])
        theirs = to_transformers(network)(input_ids=ids, labels=ids).loss.item()
        assert held_out_loss(network, padded(draws, END, length)) == pytest.approx(theirs, rel=1e-5)
        assert held_out_loss(network, draws) != pytest.approx(theirs, rel=1e-2)

    def test_share_of_pads(self):
        assert pad_share(DRAWS, 5) == pytest.approx(1 - (3 + 1 + 4) / 12)
        assert pad_share(pack([(1, 2, 3, 4)], [False], (1,), 5), 5) == 0


def test_corpus_mean_by_hand():
    # -14 nats over 4 tokens, where the mean per sequence over a mean length of 2 gives the same, and over another
    # constant does not
    assert corpus_mean(np.array([-2.0, -12.0]), np.array([1, 3])) == -3.5
