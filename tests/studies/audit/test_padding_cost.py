"""Padding, counted by hand and against a decoder that counts its own steps."""

from __future__ import annotations

import numpy as np
import pytest

from distilscope.distribution import Key
from distilscope.lm.causal_lm import CausalLM
from distilscope.studies.audit.padding_cost import (
    logits_bytes,
    share_padded,
    share_rounded,
    share_through_slots,
    share_to_longest,
)
from fake_models import THREE, TableLM


def test_shares_by_hand():
    lengths = np.array([4, 1, 2, 1])
    assert share_to_longest([lengths]) == 8 / 16
    assert share_to_longest([lengths[:2], lengths[2:]]) == 8 / 12
    assert (
        share_through_slots([lengths], 2) == 8 / 10
    )  # after the first tokens one slot makes 3 in three steps, the other 0 + 1 + 0
    assert share_padded(lengths, 5) == 8 / 20
    assert share_rounded([lengths[:2], lengths[2:]], 4) == 8 / 12
    assert logits_bytes(10, 100) == 4000


def test_slots_count_as_the_sampler_runs_them():
    steps = []

    class Counting(TableLM):
        def decoder(self, prompts, slots, horizon):
            steps.append(super().decoder(prompts, slots, horizon))
            return steps[-1]

    draws = (
        CausalLM(Counting(THREE.table), frozenset([0]))
        .after((1,), horizon=6)
        .sample_after(np.zeros(40, dtype=int), Key(1), slots=7)
    )
    assert share_through_slots([draws.lengths], 7) == pytest.approx(len(draws.ids) / (40 + 7 * steps[0].steps))
    assert share_to_longest([draws.lengths]) < share_through_slots([draws.lengths], 7)
