import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilscope.errors import UsageError
from distilscope.selectivity import UNCHANGED, Chain, MinP, Power, Temperature, TopK, TopP, from_parameters

logits = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12).map(
    lambda row: torch.tensor(row, dtype=torch.float64)
)
apart = st.lists(st.integers(-60, 60), min_size=1, max_size=12, unique=True).map(
    lambda row: torch.tensor(row, dtype=torch.float64) / 4
)
betas = st.floats(0.05, 20)
chances = st.floats(0.01, 1.0)
selectivities = st.one_of(
    betas.map(Power),
    betas.map(Temperature),
    st.just(Power(math.inf)),
    st.integers(1, 15).map(TopK),
    chances.map(TopP),
    chances.map(MinP),
    st.tuples(betas.map(Temperature), st.integers(1, 15).map(TopK), chances.map(TopP), chances.map(MinP)).map(Chain),
)


def entropy(row: torch.Tensor) -> float:
    return float(torch.special.entr(row.softmax(-1)).sum())


@given(row=logits, by=selectivities)
def test_the_result_is_a_distribution_over_a_part_of_the_choices(row, by):
    before, after = row.clone(), by(row)
    assert torch.equal(row, before)
    assert after.shape == row.shape
    probs = after.log_softmax(-1).exp()
    assert float(probs.sum()) == pytest.approx(1)
    assert bool((after > -math.inf).any())
    assert float(probs[row.argmax()]) == pytest.approx(float(probs.max())), "the likeliest choice stays the likeliest"


@given(row=logits, tau=betas)
def test_temperature_is_the_reciprocal_power(row, tau):
    assert torch.equal(Temperature(tau)(row), Power(1 / tau)(row))


@given(row=logits)
def test_power_one_and_keeping_everything_are_the_identity(row):
    for by in (Power(1), Temperature(1), TopK(len(row)), TopP(1.0), UNCHANGED, Chain(())):
        assert torch.equal(by(row), row)


@given(row=logits, a=betas, b=betas)
def test_powers_multiply(row, a, b):
    torch.testing.assert_close(Power(a)(Power(b)(row)).softmax(-1), Power(a * b)(row).softmax(-1))
    torch.testing.assert_close(Chain((Power(a), Power(b)))(row).softmax(-1), Power(a * b)(row).softmax(-1))


@given(row=st.lists(st.integers(-2, 2), min_size=1, max_size=8))
def test_the_argmax_limit_shares_ties(row):
    best = np.array(row) == max(row)
    for dtype in (torch.float32, torch.float64):
        for by in (Power(math.inf), Power(1e40), Temperature(1e-40)):
            np.testing.assert_allclose(by(torch.tensor(row, dtype=dtype)).softmax(-1), best / best.sum())


@given(row=logits, beta=betas, factor=st.floats(1, 5))
def test_entropy_falls_as_beta_rises(row, beta, factor):
    assert entropy(Power(beta * factor)(row)) <= entropy(Power(beta)(row)) + 1e-9


@given(row=logits, by=selectivities)
def test_batches_are_rows_side_by_side(row, by):
    batch = torch.stack([row, row.flip(-1), row * 0.5])
    for i, one in enumerate(batch):
        torch.testing.assert_close(by(batch)[i], by(one))


def kept(row: torch.Tensor) -> list[bool]:
    return (row > -math.inf).tolist()


@given(row=apart, k=st.integers(1, 15))
def test_top_k_keeps_the_k_likeliest(row, k):
    ranks = np.argsort(np.argsort(-row.numpy()))
    assert kept(TopK(k)(row)) == (ranks < k).tolist()


@given(row=apart, p=chances)
def test_top_p_keeps_the_smallest_set_that_reaches_p(row, p):
    probs = np.exp(row.numpy() - np.logaddexp.reduce(row.numpy()))
    order = np.argsort(-probs)
    reached = np.cumsum(probs[order])
    if np.abs(reached - p).min() < 1e-9:
        return  # which side of p a sum falls on is then rounding
    size = min(int((reached < p).sum()) + 1, len(probs))
    assert kept(TopP(p)(row)) == np.isin(np.arange(len(probs)), order[:size]).tolist()


@given(row=apart, p=chances)
def test_min_p_keeps_what_reaches_a_part_of_the_likeliest(row, p):
    probs = np.exp(row.numpy() - row.numpy().max())
    if np.abs(probs - p).min() < 1e-9:
        return
    assert kept(MinP(p)(row)) == (probs >= p).tolist()


@given(row=apart, by=st.one_of(st.integers(1, 15).map(TopK), chances.map(TopP), chances.map(MinP)))
def test_truncation_renormalises_what_it_keeps(row, by):
    after = by(row)
    keep = after > -math.inf
    assert torch.equal(after[keep], row[keep])


def test_ties_at_the_border():
    row = torch.tensor([1.0, 0.0, 0.0, -1.0])
    assert kept(TopK(2)(row)) == [True, True, True, False]
    assert sum(kept(TopP(0.5)(torch.zeros(4)))) == 2
    assert sum(kept(TopP(1e-9)(torch.zeros(4)))) == 1
    assert kept(MinP(1.0)(torch.tensor([1.0, 1.0, 0.0]))) == [True, True, False]


def test_removed_choices_stay_removed():
    row = torch.tensor([3.0, -math.inf, 1.0, 2.0])
    for by in (Power(0.5), Power(1), Power(math.inf), Temperature(2), TopK(3), TopK(4), TopP(0.99), TopP(1), MinP(0.1)):
        after = by(row)
        assert float(after[1]) == -math.inf, by
        assert not bool(after.isnan().any()), by


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "value"),
    [
        (make, value)
        for make, bad in {
            Power: (0, -1, math.nan, -math.inf, "0.8", True, None),
            Temperature: (0, 0.0, -1, math.nan, math.inf, "0.8", True, None),
            TopK: (0, -3, 2.0, math.nan, math.inf, "5", True, None),
            TopP: (0, -0.1, 1.0001, math.nan, math.inf, "0.9", True, None),
            MinP: (0, -0.1, 1.0001, math.nan, math.inf, "0.9", True, None),
        }.items()
        for value in bad
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_bad_values_are_refused(make, value):
    with pytest.raises(UsageError, match=r"is .*, but must be") as caught:
        make(value)
    assert repr(value) in str(caught.value)
    assert caught.value.exit_code == 2


def test_knobs_apply_in_the_order_of_samplers():
    sampling = {"min_p": 0.1, "top_p": 0.9, "top_k": 5, "temperature": 0.8}
    assert from_parameters(sampling) == Chain((Temperature(0.8), TopK(5), TopP(0.9), MinP(0.1)))
    assert from_parameters({"top_k": 3, "top_p": None}) == TopK(3)
    assert from_parameters({}) == from_parameters({"temperature": None}) == UNCHANGED
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        from_parameters({"temprature": 1.0})
