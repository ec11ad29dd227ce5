import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from distilscope.distribution import Key
from distilscope.lm.kernels import inverse_cdf

LAST = np.nextafter(1.0, 0.0)
Invert = Callable[[torch.Tensor, np.ndarray], tuple[np.ndarray, np.ndarray]]


def compiled(logits: torch.Tensor, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = logits if logits.stride(0) else logits.contiguous()
    assert inverse_cdf.fits(inverse_cdf.in_rows(logits))
    return inverse_cdf.invert_cdf(logits, u, np.arange(len(u)))


def by_torch(logits: torch.Tensor, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverse_cdf, "fits", lambda _: False)
        return inverse_cdf.invert_cdf(logits, u, np.arange(len(u)))


ways = pytest.mark.parametrize("invert", [compiled, by_torch])


def oracle(logits: np.ndarray) -> np.ndarray:
    """The upper ends of the tokens' intervals, in float64 and one level, from the same float32 probabilities."""
    probs = torch.from_numpy(logits).softmax(-1).double().numpy()
    return probs.cumsum(-1) / probs.sum(-1, keepdims=True)


weights = st.integers(1, 70).flatmap(
    lambda v: hnp.arrays(
        np.float32, (3, v), elements=st.one_of(st.floats(-30, 30, width=32), st.just(np.float32(-np.inf)))
    )
)
uniforms = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, LAST, 0.5, 2**-53, 1e-300]))


@ways
@given(weights, st.lists(uniforms, min_size=3, max_size=3))
def test_the_inverse_agrees_with_searchsorted(invert, logits, u):
    logits[~np.isfinite(logits).any(-1), 0] = 0.0
    tokens, log_prob = invert(torch.from_numpy(logits), np.array(u))
    upper = oracle(logits)
    probs = torch.from_numpy(logits).softmax(-1)
    for i, token in enumerate(tokens):
        assert probs[i, token] > 0
        lower = upper[i, token - 1] if token else 0.0
        assert lower - 1e-6 <= u[i] <= upper[i, token] + 1e-6
        nearest = np.abs(upper[i] - u[i]).min()
        if nearest > 1e-6:  # away from a border, the very same token
            assert token == np.searchsorted(upper[i], u[i], side="right")
    np.testing.assert_allclose(
        log_prob, torch.from_numpy(logits).log_softmax(-1)[torch.arange(3), torch.from_numpy(tokens)], atol=1e-5
    )


@ways
@pytest.mark.parametrize("vocabulary", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 100, 1000, 4095, 4096, 4097])
def test_every_size_of_vocabulary(invert, vocabulary):
    u = np.linspace(0, 1, 257)[:-1]
    tokens, log_prob = invert(torch.zeros(256, vocabulary), u)
    np.testing.assert_allclose(tokens, np.floor(u * vocabulary), atol=1)
    assert tokens.min() == 0
    assert tokens.max() == min(vocabulary - 1, math.floor(vocabulary * 255 / 256))
    np.testing.assert_allclose(log_prob, -math.log(vocabulary), atol=1e-5)


@ways
@pytest.mark.parametrize("vocabulary", [1, 2, 3, 10, 65, 300])
def test_a_token_of_probability_zero_is_never_drawn(invert, vocabulary):
    random = np.random.default_rng(vocabulary)
    extremes = np.array([0.0, 5e-324, 2**-60, 0.5, 1 - 2**-30, LAST])
    for kept in {1, max(1, vocabulary // 2), max(1, vocabulary - 1)}:
        for _ in range(20):
            inside = random.choice(vocabulary, kept, replace=False)
            row = torch.full((vocabulary,), -math.inf)
            row[torch.from_numpy(inside)] = torch.from_numpy(random.normal(0, 5, kept)).float()
            tokens, log_prob = invert(row.expand(len(extremes), -1), extremes)
            assert set(tokens.tolist()) <= set(inside.tolist())
            assert np.isfinite(log_prob).all()
            assert tokens[0] == inside.min(), "u = 0 gives the first token that has any probability"
            positive = row.softmax(-1).numpy() > 0
            assert tokens[-1] <= np.flatnonzero(positive).max()


@ways
def test_monotone_in_u(invert):
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, 777)).float()
    u = np.linspace(0, 1, 5001)[:-1]
    tokens, _ = invert(logits.expand(len(u), -1), u)
    assert (np.diff(tokens) >= 0).all()


@ways
def test_a_heavy_tail_over_a_whole_vocabulary(invert):
    """First-token frequencies of 49152 tokens with probabilities ~ 1/rank, most of them rare, in bins of every rank."""
    vocabulary, n = 49_152, 10_000
    random = np.random.default_rng(0)
    logits = torch.from_numpy(-np.log(random.permutation(vocabulary) + 1.0)).float()
    u = Key(0, ("inversion",)).generator().random(n)
    counts = np.zeros(vocabulary)
    for part in np.split(u, n // 200):
        np.add.at(counts, invert(logits.expand(len(part), -1), part)[0], 1)
    probs = logits.double().softmax(-1).numpy()
    by_rank = np.array_split(np.argsort(-probs), np.unique(np.geomspace(1, vocabulary, 40).astype(int))[:-1])
    by_id = np.array_split(np.arange(vocabulary), 61)
    for bins in (by_rank, by_id):
        observed = np.array([counts[bin_].sum() for bin_ in bins])
        expected = n * np.array([probs[bin_].sum() for bin_ in bins])
        assert expected.min() > 5
        assert stats.chisquare(observed, expected * n / expected.sum()).pvalue > 0.001


@ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_some_rows_of_many_are_drawn_from(invert, dtype):
    """Rows in any order, one of them twice: each gives what it gives alone."""
    random = np.random.default_rng(3)
    logits = torch.from_numpy(random.normal(0, 4, (6, 1000))).to(dtype)
    rows, u = np.array([4, 0, 4, 5]), random.random(4)
    with pytest.MonkeyPatch.context() as patch:
        if invert is by_torch:
            patch.setattr(inverse_cdf, "fits", lambda _: False)
        tokens, log_prob = inverse_cdf.invert_cdf(logits, u, rows)
    for i, row in enumerate(rows):
        alone = invert(logits[row : row + 1].float(), u[i : i + 1])
        assert (tokens[i], log_prob[i]) == (alone[0][0], alone[1][0])


@ways
@pytest.mark.parametrize("higher", [-math.inf, -100.0, -27.0, 0.0, 27.0, 29.0, 90.0, 1000.0])
def test_wherever_the_largest_logits_stand(invert, higher):
    """The last tokens far likelier than the first ones, or the other way round."""
    logits, u = (
        np.random.default_rng(0).normal(0, 2, (40, 2 * inverse_cdf.HEAD)).astype(np.float32),
        (np.arange(40) + 0.5) / 40,
    )
    logits[:, inverse_cdf.HEAD :] += higher
    exact = torch.from_numpy(logits).double().log_softmax(-1).numpy()
    tokens, log_prob = invert(torch.from_numpy(logits), u)
    np.testing.assert_allclose(log_prob, exact[np.arange(40), tokens], atol=2e-6, rtol=2e-6)
    upper = np.exp(exact).cumsum(-1)
    for i, token in enumerate(tokens):
        assert (upper[i, token - 1] if token else 0.0) - 2e-6 <= u[i] <= upper[i, token] + 2e-6


@ways
def test_what_stands_behind_a_row_is_no_token(invert):
    roomy, u = (
        torch.from_numpy(np.random.default_rng(5).normal(0, 4, (4, 120))).float(),
        np.array([0.0, 0.4, 0.9, LAST]),
    )
    roomy[:, 100:] = 1000
    for found, alone in zip(invert(roomy[:, :100], u), invert(roomy[:, :100].contiguous(), u), strict=True):
        np.testing.assert_array_equal(found, alone)


def test_logits_that_are_no_numbers_give_a_token_and_no_number():
    for logits in (
        torch.full((1, 300), math.nan),
        torch.tensor([[0.0, math.nan, 1.0]]),
        torch.tensor([[-math.inf, math.inf]]),
    ):
        tokens, log_prob = compiled(logits, np.array([0.5]))
        assert 0 <= tokens[0] < logits.shape[1]
        assert not np.isfinite(log_prob[0])
