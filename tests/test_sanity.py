"""What precision and recall must do where the answer is known: modes dropped, invented, shifted (after Räisä et al.,
ICML 2025)."""

import math

import numpy as np
import pytest

from distilscope.distribution import Key
from distilscope.evaluation.precision_recall import PrecisionRecall, precision_recall
from distilscope.lm.causal_lm import CausalLM, PromptedLM
from fake_models import TableLM

P = np.array([0.4, 0.3, 0.2, 0.1, 0.0])
"""Four modes; a fifth token that p never makes."""
ENTROPY = float(-(P[:4] * np.log(P[:4])).sum())


def one_token(weights: np.ndarray) -> PromptedLM:
    weights = np.asarray(weights, dtype=np.float64)
    return CausalLM(TableLM(np.broadcast_to(weights / weights.sum(), (1, 5, 5))), frozenset()).after((0,), horizon=1)


def against_p(q: np.ndarray) -> PrecisionRecall:
    return precision_recall(reference=one_token(P), candidate=one_token(q), n=4000, key=Key(0, ("sanity",)))


def exact(own: np.ndarray, other: np.ndarray) -> float:
    inside = own > 0
    with np.errstate(divide="ignore"):
        return float((own[inside] * np.log(other[inside])).sum())


def near(estimate, value) -> bool:
    return abs(estimate.mean - value) <= 4 * (estimate.stderr or 0) + 1e-6


def test_identical_models():
    found = against_p(P)
    assert near(found.precision, -ENTROPY)
    assert near(found.recall, -ENTROPY)
    assert found.kl_candidate_reference.mean == pytest.approx(0, abs=1e-6)
    assert found.kl_reference_candidate.mean == pytest.approx(0, abs=1e-6)


def test_a_mode_dropped_costs_recall_and_not_precision():
    q = P * [1, 1, 1, 0, 0]
    found = against_p(q)
    assert found.recall.mean is None
    assert found.recall.infinite == pytest.approx(0.1 * 4000, rel=0.2)
    assert found.precision.mean > -ENTROPY
    assert near(found.precision, exact(q / q.sum(), P))
    nearly = against_p(P * [1, 1, 1, 1e-4, 0])
    assert nearly.recall.mean < -ENTROPY - 0.5
    assert nearly.precision.mean > -ENTROPY


def test_a_mode_invented_costs_precision_and_little_recall():
    found = against_p(P + np.array([0, 0, 0, 0, 0.1]))
    assert found.precision.mean is None
    assert found.precision.infinite == pytest.approx(4000 / 11, rel=0.2)
    assert near(found.recall, -ENTROPY - math.log(1.1))


def test_a_point_mass_on_the_mode_has_the_highest_precision_there_is():
    found = against_p(np.array([1.0, 0, 0, 0, 0]))
    assert found.precision.mean == pytest.approx(math.log(0.4), abs=1e-6)
    assert found.candidate_entropy.mean == pytest.approx(0, abs=1e-6)
    assert found.recall.mean is None
    assert found.precision_gain.mean == pytest.approx(ENTROPY + math.log(0.4), abs=4 * found.reference_entropy.stderr)


@pytest.mark.parametrize("shift", [0.05, 0.15, 0.25])
def test_shifted_weights_cost_what_the_divergences_say(shift):
    q = P + np.array([shift, -shift, 0, 0, 0])
    found = against_p(q)
    assert near(found.precision, exact(q, P))
    assert near(found.recall, exact(P, q))
    assert near(found.kl_reference_candidate, exact(P, P) - exact(P, q))
    assert found.kl_reference_candidate.mean > 0
