import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distilscope.evaluation.documents import document_of, record_of
from distilscope.evaluation.estimate import Estimate, t_interval

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


def as_strict_json(estimate: Estimate) -> str:
    return json.dumps(document_of(estimate), allow_nan=False)


@given(values)
def test_mean_and_standard_error(draws):
    estimate = Estimate.of(draws)
    n = len(draws)
    mean = math.fsum(draws) / n
    assert estimate.mean == pytest.approx(mean, abs=1e-6)
    assert estimate.stderr == pytest.approx(
        math.sqrt(math.fsum((x - mean) ** 2 for x in draws) / (n - 1) / n), abs=1e-6
    )
    assert estimate.n == n
    assert record_of(json.loads(as_strict_json(estimate)), Estimate) == estimate


@given(
    values, st.lists(st.tuples(st.integers(0, 100), st.sampled_from([math.inf, -math.inf])), min_size=1, max_size=20)
)
def test_infinite_draws_are_counted_by_index_and_never_averaged_away(draws, places):
    array = np.array(draws)
    for place, value in places:
        array[place % len(array)] = value
    at = tuple(np.flatnonzero(np.isinf(array)).tolist())
    estimate = Estimate.of(array)
    assert (estimate.mean, estimate.stderr, estimate.n, estimate.infinite) == (None, None, len(array), len(at))
    assert estimate.infinite_at == at[:10]
    assert json.loads(as_strict_json(estimate)) == {"mean": None, "stderr": None, "n": len(array), "infinite": len(at)}


def test_one_draw_has_no_standard_error():
    assert Estimate.of([3.0]) == Estimate(3.0, None, 1)
    as_strict_json(Estimate.of([3.0]))


@pytest.mark.parametrize("bad", [[1.0, math.nan], [math.nan, math.inf], []], ids=str)
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match=r"value \d is not a number|at least one value"):
        Estimate.of(bad)


def test_exact_values_have_no_error():
    assert Estimate.exact(1.5) == Estimate(1.5, 0.0, 0)
    assert Estimate.exact(-math.inf) == Estimate(None, None, 0, 1)
    as_strict_json(Estimate.exact(math.inf))
    with pytest.raises(ValueError, match="not a number"):
        Estimate.exact(math.nan)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.sampled_from([0.5, 0.9, 0.95]))
def test_t_interval_is_scipys(draws, confidence):
    interval = t_interval(draws, confidence=confidence)
    assert interval.n == len(draws)
    assert interval.mean == pytest.approx(np.mean(draws))
    scale = stats.sem(draws)
    if scale > 0:
        low, high = stats.t.interval(confidence, len(draws) - 1, loc=np.mean(draws), scale=scale)
        assert interval.half_width == pytest.approx((high - low) / 2, rel=1e-6, abs=1e-9)


def test_a_single_seed_has_no_interval():
    assert t_interval([2.0]).half_width is None


def test_t_intervals_cover_as_often_as_they_say():
    random = np.random.default_rng(0)
    covered = [
        abs(interval.mean) <= interval.half_width
        for interval in (t_interval(row) for row in random.standard_normal((400, 4)).tolist())
    ]
    assert stats.binomtest(sum(covered), 400, 0.95).pvalue > 0.001


def test_words():
    assert str(Estimate.of([1.0, 3.0])) == "2.00 ± 1.00"
    assert str(Estimate.exact(2.0)) == "2.00"
    assert str(Estimate.of([-math.inf, 1.0])) == "infinite (1 of 2)"
    assert str(t_interval([1.0])) == "1.00"
