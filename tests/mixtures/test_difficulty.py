import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distilscope.errors import UsageError
from distilscope.mixtures.difficulty import difficulty
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.selectivity import Power


@pytest.fixture
def teacher() -> GaussianMixture:
    """Covers the ring's sides: left and right columns with 3 modes each, the bottom and the top middle with 1 each."""
    return GaussianMixture.of(
        weights=[0.4, 0.3, 0.2, 0.1],
        means=[[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]],
        covariances=[[0.02, 0.7], [0.02, 0.7], [0.05, 0.05], [0.05, 0.05]],
    )


@pytest.mark.parametrize(
    ("beta", "emphasised"),
    [
        (1, 3 + 3 + 1 + 1),  # 0.4, 0.3, 0.2, 0.1
        (2, 3 + 3 + 1),  # 0.53, 0.30, 0.13, 0.03
        (4, 3 + 3),  # 0.725, 0.229, 0.045, 0.003
        (12, 3),  # 0.968, 0.031, 0.0002, 0
        (math.inf, 3),
    ],
)
def test_by_hand(ring, teacher, beta, emphasised):
    for students in (1, 3):
        value = difficulty(ground_truth=ring, teacher=teacher, by=Power(beta), student_components=students)
        assert value == emphasised - students


def test_the_threshold_is_epsilon(ring, teacher):
    values = [
        difficulty(ground_truth=ring, teacher=teacher, by=Power(1), student_components=1, epsilon=e)
        for e in (0.0, 0.15, 0.25, 0.35)
    ]
    assert values == [7, 6, 5, 2]


@given(st.lists(st.floats(0.1, 1), min_size=4, max_size=4), st.floats(1, 30), st.floats(1, 10))
def test_it_never_rises_with_beta_where_all_components_count_at_first(raw, beta, factor):
    weights = [value / sum(raw) for value in raw]
    assume(min(weights) > 0.05)
    points = [[-1.0], [0.0], [1.0], [2.0]]
    teacher = GaussianMixture.of(weights=weights, means=points, covariances=[[0.05]] * 4)
    truth = GaussianMixture.of(
        weights=[1 / 8] * 8, means=[[m[0] + s] for m in points for s in (-0.1, 0.1)], covariances=[[0.01]] * 8
    )
    before, after = (
        difficulty(ground_truth=truth, teacher=teacher, by=Power(value), student_components=1)
        for value in (beta, beta * factor)
    )
    assert after <= before


def test_a_bad_epsilon(ring, teacher):
    with pytest.raises(UsageError, match=r"epsilon is 1\.5"):
        difficulty(ground_truth=ring, teacher=teacher, by=Power(1), student_components=1, epsilon=1.5)
