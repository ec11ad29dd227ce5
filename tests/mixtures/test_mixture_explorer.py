"""The explorer's stops are the simulation's own, and its page holds them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distilscope.errors import UsageError
from distilscope.mixtures.config import MogPaper
from distilscope.mixtures.explorer import BETAS, explorer_document, with_heaviest
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.quadrature import exact_entropy
from distilscope.mixtures.simulation import simulate
from distilscope.report.explorer import explorer
from distilscope.selectivity import Power
from html_pages import data, read

PAPER = MogPaper(betas=(1.0, 7.0, 100.0))


@pytest.fixture(scope="module")
def explored():
    return explorer_document(PAPER)


def mixture(components):
    rows = torch.tensor(components, dtype=torch.float64)
    return GaussianMixture(rows[:, 0].log_softmax(0), rows[:, 1:3], rows[:, 3:])


def same(components, record):
    """A mixture of the explorer against one of the simulation's, whose components come in another order."""
    ours = sorted([math.exp(log), *rest] for log, *rest in components)
    theirs = sorted(
        [w, *m, c[0][0], c[1][1]] for w, m, c in zip(record.weights, record.means, record.covariances, strict=True)
    )
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(("teacher", "student"), [(4, 1), (3, 2), (8, 4)])
def test_where_the_fitted_mode_wins_a_stop_is_the_simulations(explored, teacher, student):
    config = replace(PAPER, teacher_components=teacher, student_components=student, seeds=1)
    found = simulate(config).mixtures
    same(explored["teachers"][str(teacher)], found.teacher)
    same(explored["direct"][str(student)], found.direct)
    winner = int(np.argmax([component[0] for component in explored["teachers"][str(teacher)]]))
    for record in found.distilled:
        place = explored["betas"].index(record.beta)
        same(explored["students"][str(teacher)][str(student)][winner][place], record)


def test_stops_are_all_there_and_the_start_is_among_them(explored):
    assert explored["betas"] == [*sorted({*BETAS, 7.0} - {math.inf}), "inf"]
    assert explored["start"] == {"beta": 100.0, "teacher_components": 4, "student_components": 1}
    assert explored["entropy"] == exact_entropy(PAPER.ground_truth())
    for teacher, by_student in explored["students"].items():
        assert len(explored["teachers"][teacher]) == int(teacher)
        for student, winners in by_student.items():
            assert [len(betas) for betas in winners] == [len(explored["betas"])] * int(teacher)
            assert all(len(one) == int(student) for betas in winners for one in betas)


def test_each_winner_draws_the_student_to_itself(explored):
    """At beta = inf the student is fitted on one mode alone, whichever was to win."""
    for teacher, by_student in explored["students"].items():
        for component, betas in zip(explored["teachers"][teacher], by_student["1"], strict=True):
            (_, x, y, vx, vy) = betas[-1][0]
            deviations = [
                (x - component[1]) / math.sqrt(component[3] / 1000),
                (y - component[2]) / math.sqrt(component[4] / 1000),
            ]
            assert max(map(abs, deviations)) < 5
            assert [vx, vy] == pytest.approx(component[3:], rel=0.25)


def test_leading_exchanges_two_weights():
    mix = GaussianMixture.of(weights=[0.2, 0.5, 0.3], means=[[0, 0], [1, 1], [2, 2]], covariances=[[1, 1]] * 3)
    assert with_heaviest(mix, 0).weights.tolist() == pytest.approx([0.5, 0.2, 0.3])
    assert with_heaviest(mix, 1) is mix
    assert with_heaviest(mix, 2).select(Power(math.inf)).weights.tolist() == [0, 0, 1]


def test_teachers_go_round_the_origin(explored):
    for components in explored["teachers"].values():
        angles = [math.atan2(y, x) for _, x, y, *_ in components]
        assert angles == sorted(angles)


def test_few_points_offer_fewer_components():
    found = explorer_document(MogPaper(num_train=5, num_distill=3, teacher_components=2, betas=(1.0,)))
    assert list(found["teachers"]) == ["2", "3", "4", "5"]
    assert list(found["direct"]) == ["1", "2", "3"]


@pytest.mark.parametrize("config", [MogPaper(dimension=1), MogPaper(dimension=3), MogPaper(covariance="full")])
def test_what_a_plane_cannot_show_is_refused(config):
    with pytest.raises(UsageError, match="--dimension 2"):
        explorer_document(config)


def test_the_page_holds_the_stops_and_asks_for_nothing(explored):
    page = read(explorer(explored))
    assert data(page, "explored") == explored
    assert [one.attributes["id"] for one in page.all("input")] == [
        "beta",
        "winner",
        "teacher-components",
        "student-components",
    ]
    labelled = {one.attributes["for"] for one in page.all("label")}
    assert labelled == {one.attributes["id"] for one in page.all("input")}
    assert all("aria-label" in one.attributes for one in page.all("svg"))
    assert not any("src" in one.attributes for tag in ("script", "img") for one in page.all(tag))
    assert mixture(explored["ground_truth"]).num_components == 8
