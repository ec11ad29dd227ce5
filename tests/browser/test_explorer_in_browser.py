"""The mixtures' explorer in a browser: its P, R and entropy are those of the quadrature at every stop."""

from __future__ import annotations

import math

import pytest
import torch

from distilscope.mixtures.config import MogPaper
from distilscope.mixtures.difficulty import difficulty
from distilscope.mixtures.explorer import explorer_document, with_heaviest
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.quadrature import expected_log_prob
from distilscope.mixtures.simulation import simulate
from distilscope.report.explorer import explorer
from distilscope.selectivity import Power

pytestmark = pytest.mark.browser

TOLERANCE = 1e-3
"""Nats per draw, as the page states it."""

EVERY = 43
"""Of the stops, every so-manieth is compared: a step that shares no factor with the sliders' lengths."""


@pytest.fixture(scope="module")
def explored():
    return explorer_document(MogPaper())


@pytest.fixture(scope="module")
def path(explored, tmp_path_factory):
    path = tmp_path_factory.mktemp("mog") / "explorer.html"
    path.write_text(explorer(explored), encoding="utf-8")
    return path


def mixture(components):
    rows = torch.tensor(components, dtype=torch.float64)
    return GaussianMixture(rows[:, 0].log_softmax(0), rows[:, 1:3], rows[:, 3:])


TRUTH = MogPaper().ground_truth()


def quadrature(q, *, p=TRUTH):
    """P, R and H of a mixture q."""
    exact = {"relative": 1e-7, "absolute": 1e-6}
    return [
        expected_log_prob(q, p, **exact).value,
        expected_log_prob(p, q, **exact).value,
        -expected_log_prob(q, q, **exact).value,
    ]


def cells(visited, who):
    """The numbers of a row, in full."""
    visited.page.wait_for_selector("html[data-drawn]", state="attached")
    return [
        float(value)
        for value in visited.page.locator(f"#{who} td").evaluate_all("cells => cells.map(cell => cell.dataset.value)")
    ]


def move(visited, **stops):
    for name, place in stops.items():
        slider = visited.page.locator(f"#{name.replace('_', '-')}")
        slider.evaluate("(slider, place) => { slider.value = place; slider.dispatchEvent(new Event('input')); }", place)


def test_it_opens_offline_without_a_request_or_a_complaint(visit, path):
    visited = visit(path)
    assert visited.requests == [path.as_uri()]
    assert visited.complaints == []


def test_it_starts_at_the_papers_figures(visit, path):
    """What `distilscope mog --beta 100` gives for seed 0."""
    found = {(s.training, s.beta): s for s in simulate(MogPaper(seeds=1, betas=(100.0,))).students}
    visited = visit(path)
    for who, record in (("direct", found["direct", None]), ("distilled", found["distilled", 100.0])):
        names = ("precision", "recall", "candidate_entropy", "kl_candidate_reference", "kl_reference_candidate")
        assert cells(visited, who) == pytest.approx([getattr(record, name).mean for name in names], abs=2 * TOLERANCE)
    assert visited.page.locator("#beta-is").inner_text() == "β = 100"
    assert visited.page.locator(".panel svg path.contour").count() == 5


def test_every_stop_agrees_with_the_quadrature(visit, path, explored):
    """The page's own functions on the page's own mixtures, students at a spread of all stops."""
    stops = [
        (k1, k2, winner, beta)
        for k1, by_student in explored["students"].items()
        for k2, winners in by_student.items()
        for winner in range(len(winners))
        for beta in range(len(explored["betas"]))
    ]
    chosen = stops[::EVERY]
    assert len(chosen) > 30
    theirs = visit(path).page.evaluate(
        """stops => {
            const explored = JSON.parse(document.getElementById('explored').textContent);
            return stops.map(([k1, k2, winner, beta]) => {
                const student = explored.students[k1][k2][winner][beta];
                const found = measured(student, explored.ground_truth, explored.entropy);
                return [found.precision, found.recall, found.entropy];
            });
        }""",
        chosen,
    )
    for (k1, k2, winner, beta), found in zip(chosen, theirs, strict=True):
        assert found == pytest.approx(quadrature(mixture(explored["students"][k1][k2][winner][beta])), abs=TOLERANCE), (
            k1,
            k2,
            winner,
            beta,
        )


def test_moving_a_slider_moves_the_numbers(visit, path, explored):
    visited = visit(path)
    for stop in (
        {"beta": 4},
        {"winner": 2},
        {"student_components": 1},
        {"teacher_components": 4, "winner": 5, "beta": 7},
        {"beta": 10},
    ):
        move(visited, **stop)
        now = {
            name: int(visited.page.locator(f"#{name}").input_value())
            for name in ("beta", "winner", "teacher-components", "student-components")
        }
        k1, k2 = (
            list(explored["teachers"])[now["teacher-components"]],
            list(explored["direct"])[now["student-components"]],
        )
        student = mixture(explored["students"][k1][k2][now["winner"]][now["beta"]])
        beta = math.inf if explored["betas"][now["beta"]] == "inf" else explored["betas"][now["beta"]]
        led = with_heaviest(mixture(explored["teachers"][k1]), now["winner"])
        assert cells(visited, "distilled")[:3] == pytest.approx(quadrature(student), abs=TOLERANCE)
        assert cells(visited, "direct")[:3] == pytest.approx(quadrature(mixture(explored["direct"][k2])), abs=TOLERANCE)
        selected = led.select(Power(beta))
        precision, _, entropy = quadrature(selected)
        assert cells(visited, "teacher")[0::2][:2] == pytest.approx([precision, entropy], abs=TOLERANCE)
        weights = [float(text) for text in visited.page.locator("#weights text").all_text_contents()[0::2]]
        assert weights == pytest.approx(selected.weights.tolist(), abs=0.006)
        asked = difficulty(ground_truth=TRUTH, teacher=led, by=Power(beta), student_components=int(k2))
        assert int(visited.page.locator("#difficulty").inner_text().replace("−", "-")) == asked


def test_another_teacher_is_led_by_its_own_heaviest(visit, path, explored):
    visited = visit(path)
    for place, components in enumerate(explored["teachers"].values()):
        move(visited, teacher_components=place)
        logs = [component[0] for component in components]
        assert int(visited.page.locator("#winner").input_value()) == logs.index(max(logs))
        assert "as fitted" in visited.page.locator("#winner-is").inner_text()


def test_by_keyboard_alone(visit, path):
    visited = visit(path)
    before = cells(visited, "distilled")
    for _ in range(10):
        visited.page.keyboard.press("Tab")
        if visited.page.evaluate("document.activeElement.id") == "beta":
            break
    visited.page.keyboard.press("ArrowLeft")
    assert visited.page.locator("#beta-is").inner_text() == "β = 50"
    assert visited.page.locator("#beta").get_attribute("aria-valuetext") == "β = 50"
    assert cells(visited, "distilled") != before
    visited.page.locator("button[type=reset]").press("Enter")
    assert cells(visited, "distilled") == before


def test_the_line_runs_over_every_stop_of_beta(visit, path, explored):
    visited = visit(path)
    assert visited.page.locator("#frontier circle.f-distilled").count() == len(explored["betas"]) + 1
    points = visited.page.locator("#frontier polyline").get_attribute("points").split()
    assert len(points) == len(explored["betas"])
