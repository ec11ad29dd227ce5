import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import page_trend_test

from distilscope.frontier import ALPHA, TradeOff, trade_off

FOUR = (0.7, 0.8, 0.9, 1.0)
UP = np.arange(4.0)
FLAT = np.array([0.3, 0.1, 0.4, 0.2])
NONE = TradeOff("not shown", None, None, None)


def verdict(precision: np.ndarray, recall: np.ndarray, kl: np.ndarray, *, seeds: int = 4, temperatures=FOUR) -> TradeOff:
    """Every seed has these values by rising temperature, shifted by its own constant."""

    def blocks(row: np.ndarray) -> np.ndarray:
        return row + 10.0 * np.arange(seeds)[:, None]

    return trade_off(temperatures=temperatures, precision=blocks(precision), recall=blocks(recall), kl=blocks(kl))


@pytest.mark.parametrize(
    ("precision", "recall", "kl", "expected"),
    [
        (-UP, UP, FLAT, "holds"),
        (-UP, UP, UP, "holds"),
        (-UP, UP, 0 * UP, "holds"),
        (-UP, UP, -UP, "sharpening only"),
        (FLAT, UP, FLAT, "not shown"),
        (-UP, FLAT, -UP, "not shown"),
        (UP, -UP, FLAT, "not shown"),
        (-UP, -UP, -UP, "not shown"),
        (UP, UP, -UP, "not shown"),
        (0 * UP, 0 * UP, 0 * UP, "not shown"),
    ],
)
def test_the_verdict_is_read_from_the_trends(precision, recall, kl, expected):
    assert verdict(precision, recall, kl).verdict == expected


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_fewest_seeds_and_temperatures_that_can_show_it(seeds):
    found = verdict(-UP[:3], UP[:3], FLAT[:3], seeds=seeds, temperatures=FOUR[:3])
    assert found.verdict == "holds"
    assert found.p_precision == pytest.approx(page_trend_test(np.tile(UP[:3], (seeds, 1))).pvalue)


@pytest.mark.parametrize(("seeds", "count"), [(1, 4), (4, 2), (4, 1), (1, 1)])
def test_too_few_seeds_or_temperatures_show_nothing(seeds, count):
    assert verdict(-UP[:count], UP[:count], FLAT[:count], seeds=seeds, temperatures=FOUR[:count]) == NONE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["precision", "recall", "kl"])
def test_a_value_that_is_not_finite_shows_nothing(bad, place):
    values = {"precision": np.tile(-UP, (3, 1)), "recall": np.tile(UP, (3, 1)), "kl": np.tile(FLAT, (3, 1))}
    assert trade_off(temperatures=FOUR, **values).verdict == "holds"
    values[place] = values[place].copy()
    values[place][1, 2] = bad
    assert trade_off(temperatures=FOUR, **values) == NONE


tables = hnp.arrays(np.float64, (3, 4), elements=st.floats(-5, 5))


@given(tables, tables, tables)
def test_p_values_are_pages(precision, recall, kl):
    found = trade_off(temperatures=FOUR, precision=precision, recall=recall, kl=kl)
    for p, values in ((found.p_precision, -precision), (found.p_recall, recall), (found.p_kl, -kl)):
        assert p == pytest.approx(page_trend_test(values).pvalue)
    both = found.p_precision <= ALPHA and found.p_recall <= ALPHA
    assert (found.verdict == "not shown") == (not both)
    assert (found.verdict == "sharpening only") == (both and found.p_kl <= ALPHA)


@given(tables, tables, tables, st.permutations(range(4)), st.permutations(range(3)))
def test_the_order_in_which_temperatures_and_seeds_are_given_does_not_matter(precision, recall, kl, columns, rows):
    plain = trade_off(temperatures=FOUR, precision=precision, recall=recall, kl=kl)
    pick = np.ix_(rows, columns)
    shuffled = trade_off(temperatures=tuple(FOUR[i] for i in columns), precision=precision[pick], recall=recall[pick], kl=kl[pick])
    assert shuffled == plain


@given(tables, st.floats(0.1, 10), st.floats(-5, 5))
def test_only_ranks_within_a_seed_count(values, scale, shift):
    moved = values * scale + shift * np.arange(3)[:, None]
    for before, after in zip(values, moved, strict=True):
        assume(np.array_equal(np.argsort(np.argsort(before)), np.argsort(np.argsort(after))) and len(set(before)) == len(set(after)))
    first, second = (trade_off(temperatures=FOUR, precision=-v, recall=v, kl=v) for v in (values, moved))
    assert first == second


def test_chance_alone_rarely_shows_a_trade_off():
    """The intersection of two tests at 0.05 each, independent here."""
    random = np.random.default_rng(0)
    shown = [
        trade_off(temperatures=FOUR, **{name: random.standard_normal((5, 4)) for name in ("precision", "recall", "kl")}).verdict
        != "not shown"
        for _ in range(200)
    ]
    assert np.mean(shown) <= 0.03
