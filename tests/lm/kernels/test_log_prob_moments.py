"""Scores of a piece against the same in double precision."""

import math

import numpy as np
import pytest
import torch

from distilscope.lm.kernels import log_prob_moments
from distilscope.lm.kernels.log_prob_moments import Moments, log_prob_at
from distilscope.selectivity import Power, TopK

SHARPENED = {
    "as it is": Power(1),
    "sharp": Power(20),
    "truncated": TopK(3),
    "argmax": Power(math.inf),
    "flat": Power(1e-6),
}


@pytest.fixture(params=[2e-6, 2e-5], ids=["compiled", "by torch"], autouse=True)
def within(request, monkeypatch):
    """How far from exact, as a part of it: torch adds up 49152 numbers less exactly than the loops."""
    if request.param > 1e-5:
        monkeypatch.setattr(log_prob_moments, "loops_fit", lambda _: False)
    return request.param


def piece(vocabulary: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (6, vocabulary)).astype(np.float32))


def exactly(logits: torch.Tensor) -> torch.Tensor:
    return logits.double().log_softmax(-1)


def expectation(log_q: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.where(log_q.exp() > 0, log_q.exp() * values, 0.0).sum(-1)


@pytest.mark.parametrize("sharpened", SHARPENED.values(), ids=SHARPENED)
@pytest.mark.parametrize("vocabulary", [3, 16, 37, 4096, 49152])
def test_own_moments(vocabulary, sharpened, within):
    logits = sharpened(piece(vocabulary, 0))
    log_q = exactly(logits)
    targets = log_q.argmax(-1)
    log_prob, expected, variance = Moments(logits, targets).own()
    mean = expectation(log_q, log_q)
    np.testing.assert_allclose(log_prob, log_q[torch.arange(6), targets], rtol=within, atol=5e-6)
    np.testing.assert_allclose(expected, mean, rtol=within, atol=5e-6)
    np.testing.assert_allclose(variance, expectation(log_q, (log_q - mean[:, None]) ** 2), rtol=5 * within, atol=1e-6)


@pytest.mark.parametrize("sharpened", SHARPENED.values(), ids=SHARPENED)
@pytest.mark.parametrize("vocabulary", [3, 16, 37, 4096, 49152])
def test_the_same_of_another_model(vocabulary, sharpened, within):
    own, other = piece(vocabulary, 1), sharpened(piece(vocabulary, 2))
    log_p, targets = exactly(other), exactly(own).argmax(-1)
    log_prob, expected = Moments(own, targets).of_other(other)
    np.testing.assert_allclose(log_prob, log_p[torch.arange(6), targets], rtol=within, atol=5e-6)
    np.testing.assert_allclose(expected, expectation(exactly(own), log_p), rtol=within, atol=5e-6)
    np.testing.assert_array_equal(log_prob_at(other, targets), log_prob)


def test_what_q_cannot_make_is_not_asked_of_the_other():
    own, other = torch.full((1, 40), -math.inf), torch.zeros(1, 40)
    own[0, [2, 35]], other[0, [0, 39]] = 0.0, -math.inf
    _, expected = Moments(own, torch.tensor([2])).of_other(other)
    np.testing.assert_allclose(expected, -math.log(38), rtol=1e-6)
    other[0, 35] = -math.inf
    assert np.isneginf(Moments(own, torch.tensor([2])).of_other(other)[1])


def test_where_a_logit_is_no_number_neither_is_a_score():
    logits = torch.tensor([[0.0, math.nan, 1.0]])
    assert np.isnan(Moments(logits, torch.tensor([0])).own()[0])
    assert np.isnan(Moments(torch.zeros(1, 3), torch.tensor([0])).of_other(logits)[0])
    assert np.isnan(log_prob_at(logits, torch.tensor([0])))
