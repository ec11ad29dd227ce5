"""The ideal frontier against brute-force optimisation over every distribution on a few outcomes."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from distilscope.errors import UsageError
from distilscope.evaluation.ideal_frontier import LEAST_EFFECTIVE, efficiency_gap, ideal_frontier, ideal_recall

COUNTS = {
    "three outcomes": (500, 300, 200),
    "even": (400, 400, 400),
    "one rare": (900, 500, 5),
    "ties at the top": (300, 300, 100, 50),
    "long tail": (800, 400, 200, 100, 50, 25, 12, 6),
}


def draws(counts) -> np.ndarray:
    """Log-probabilities of draws that repeat each outcome exactly as often as it is expected, so that a mean is an
    expectation."""
    probability = np.array(counts) / sum(counts)
    return np.repeat(np.log(probability), counts)


def brute_force(counts, precision: float) -> float:
    """max E_p[log q] over every q on the outcomes with E_q[log p] >= precision."""
    p = np.array(counts) / sum(counts)
    log_p = np.log(p)
    best = -np.inf
    for start in (p, np.full(len(p), 1 / len(p)), p**3 / (p**3).sum()):
        found = minimize(
            lambda q: -(p @ np.log(q)),
            start,
            jac=lambda q: -p / q,
            bounds=[(1e-12, 1)] * len(p),
            constraints=[
                {"type": "eq", "fun": lambda q: q.sum() - 1, "jac": np.ones_like},
                {"type": "ineq", "fun": lambda q: q @ log_p - precision, "jac": lambda _: log_p},
            ],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        if found.success:
            best = max(best, -found.fun)
    return best


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "even"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_no_distribution_does_better(name, part):
    log_p = draws(COUNTS[name])
    low, high = ideal_frontier(log_p)[0].precision, ideal_frontier(log_p)[-1].precision
    precision = low + part * (high - low)
    point = ideal_recall(log_p, precision)
    assert point.precision == pytest.approx(precision, abs=1e-9)
    assert point.recall == pytest.approx(brute_force(COUNTS[name], precision), abs=1e-6)


counts = st.lists(st.integers(1, 60), min_size=2, max_size=6)


@given(counts, st.floats(0.01, 0.99))
def test_the_weights_are_a_distribution_with_that_precision_and_recall(few, part):
    """q = p w sums to 1, its P and R are the point's, and nu is in (lambda m, lambda m + 1]."""
    few = [20 * count for count in few]
    log_p = draws(few)
    curve = ideal_frontier(log_p, points=5)
    assume(len(curve) > 1)
    point = ideal_recall(log_p, curve[0].precision + part * (curve[-1].precision - curve[0].precision))
    p, weight = np.array(few) / sum(few), point.precision_weight
    top = np.log(p.max())
    low, high = weight * top, weight * top + 1
    for _ in range(200):  # nu by bisection, as the page of mathematics has it
        nu = (low + high) / 2
        low, high = (nu, high) if (p / (nu - weight * np.log(p))).sum() > 1 else (low, nu)
    q = p / (high - weight * np.log(p))
    assert q.sum() == pytest.approx(1, abs=1e-6)
    assert q @ np.log(p) == pytest.approx(point.precision, abs=1e-5)
    assert p @ np.log(q) == pytest.approx(point.recall, abs=1e-5)


@given(counts)
def test_the_curve_falls_ever_faster_from_p_itself_while_enough_draws_carry_it(few):
    log_p = draws([20 * count for count in few])
    curve = ideal_frontier(log_p, points=12)
    precision, recall, effective, weight = np.array(
        [(one.precision, one.recall, one.effective_sample_size, one.precision_weight) for one in curve]
    ).T
    assert precision[0] == pytest.approx(log_p.mean())
    assert recall[0] == pytest.approx(log_p.mean())
    assert weight[0] == 0
    if len(curve) > 1:
        assert np.all(np.diff(precision) > 0)
        assert np.all(np.diff(recall) < 1e-12)
        assert np.all(np.diff(recall) <= -weight[:-1] * np.diff(precision) + 1e-9)  # concave: lambda is its slope
        assert np.all(effective >= LEAST_EFFECTIVE - 1e-3)


def test_a_student_on_the_frontier_has_no_gap():
    """q made as the optimum for a chosen lambda; P and R by exact sums over its outcomes."""
    few, weight = (500, 300, 150, 50), 0.4
    p = np.array(few) / sum(few)
    low, high = weight * np.log(p.max()), weight * np.log(p.max()) + 1
    for _ in range(200):
        nu = (low + high) / 2
        low, high = (nu, high) if (p / (nu - weight * np.log(p))).sum() > 1 else (low, nu)
    q = p / (high - weight * np.log(p))
    found = efficiency_gap(draws(few), precision=float(q @ np.log(p)), recall=float(p @ np.log(q)))
    assert found.gap == pytest.approx(0, abs=1e-9)
    assert found.limited_by == "selection"


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.25, 2.0])
def test_a_tempered_p_is_below_the_frontier(temperature):
    few = (500, 300, 150, 50)
    p = np.array(few) / sum(few)
    q = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    found = efficiency_gap(draws(few), precision=float(q @ np.log(p)), recall=float(p @ np.log(q)))
    assert found.gap > 1e-5
    assert found.limited_by == ("selection" if temperature < 1 else "fidelity")
    if temperature > 1:
        assert found.gap == pytest.approx(p @ np.log(p / q))  # KL(p||q)


LONG = draws((800, 400, 200, 100, 50, 25, 12, 6))


def test_beyond_the_trusted_curve_nothing_is_said():
    last = ideal_frontier(draws([3, 40, 40, 40, 40]))[-1]
    found = efficiency_gap(-np.arange(200.0), precision=-5.0, recall=-200.0)
    assert last.effective_sample_size >= LEAST_EFFECTIVE - 1e-6
    assert ideal_recall(-np.arange(200.0), -5.0) is None
    assert (found.gap, found.limited_by) == (None, None)
    assert "fewer than 100 of p*'s 200 draws" in found.reason
    assert ideal_recall(LONG, float(LONG.max()) + 0.1) is None


def test_few_draws_give_p_itself_alone():
    log_p = -np.linspace(1, 5, 60)
    assert [(one.precision, one.precision_weight) for one in ideal_frontier(log_p)] == [
        (pytest.approx(log_p.mean()), 0)
    ]
    assert efficiency_gap(log_p, precision=-9.0, recall=-4.0).gap == pytest.approx(log_p.mean() + 4)
    assert efficiency_gap(log_p, precision=-1.5, recall=-4.0).gap is None


def test_an_even_distribution_has_one_point():
    log_p = draws(COUNTS["even"])
    (point,) = ideal_frontier(log_p)
    assert point.recall == pytest.approx(-np.log(3))
    assert ideal_recall(log_p, -1.0) is None


@pytest.mark.parametrize("bad", [[], [np.nan, -1.0], [-np.inf, -1.0]])
def test_draws_without_probability_are_refused(bad):
    with pytest.raises(UsageError, match="not finite"):
        ideal_frontier(np.array(bad))


def test_a_large_sample_has_a_curve_that_json_can_hold():
    log_p = np.random.default_rng(0).normal(-90, 20, 4096)
    curve = ideal_frontier(log_p)
    assert len(curve) == 40
    assert curve[-1].effective_sample_size == pytest.approx(LEAST_EFFECTIVE, rel=1e-6)
    json.dumps([asdict(one) for one in curve], allow_nan=False)
