"""Training curves: held-out perplexity and training loss by step, a panel per candidate, the kept checkpoint marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.report.candidates import Candidates
from distilscope.report.charts.style import Chart, axis, data, finished, panel, span, x
from distilscope.report.exhibit import TrainingCurve
from distilscope.report.palette import css

WIDTH, HEIGHT = 160, 190


def trainings(candidates: Candidates, curves: Sequence[TrainingCurve]) -> Chart | None:
    """None where no model was trained."""
    if not curves:
        return None
    by_candidate: dict[Candidate, list[_Point]] = {
        candidate: [] for candidate in (Candidate("teacher"), DIRECT, *(one.candidate for one in candidates.distilled))
    }
    for curve in curves:
        by_candidate[curve.candidate] += _points(curve)
    shown = {candidate: points for candidate, points in by_candidate.items() if points}
    every = [point.perplexity for points in shown.values() for point in points]
    low, high = span([math.log(value) for value in every], pad=0.06)
    domain = [math.exp(low), math.exp(high)]
    charts = [_panel(one, points, domain, first=place == 0) for place, (one, points) in enumerate(shown.items())]
    kept = "; ".join(f"{_title(candidate)}: {_kept(points)}" for candidate, points in shown.items())
    words = (
        "Perplexity per token by training step, each seed a line. Held-out perplexity of the kept checkpoint, "
        f"mean over seeds: {kept}."
    )
    return finished(alt.concat(*charts, columns=6, spacing=14), words)


class _Point(NamedTuple):
    """A row of the data of a panel: one of an evaluation's two perplexities."""

    step: int
    perplexity: float
    kind: str
    seed: int
    kept: bool


HELD_OUT, IN_TRAINING = "held out", "in training"


def _points(curve: TrainingCurve) -> list[_Point]:
    """Per evaluation: the perplexity on held-out draws, and on the training data since the last one."""
    return [
        _Point(entry.step, math.exp(min(loss, 50.0)), kind, curve.seed, entry.step == curve.chosen_step)
        for entry in curve.history
        for kind, loss in ((HELD_OUT, entry.held_out_loss), (IN_TRAINING, entry.training_loss))
    ]


def _title(candidate: Candidate) -> str:
    return candidate.name if candidate.role == "teacher" else candidate.label


def _kept(points: Sequence[_Point]) -> str:
    values = [point.perplexity for point in points if point.kept and point.kind == HELD_OUT]
    return f"{sum(values) / len(values):.1f}"


def _panel(candidate: Candidate, points: Sequence[_Point], domain: list[float], *, first: bool) -> alt.LayerChart:
    title, colour = _title(candidate), css(candidate.role)
    steps = max(point.step for point in points)
    horizontal = x("step", (0.0, steps * 1.04), "training step", tickCount=3)
    perplexities = axis("perplexity per token", tickCount=5) if first else axis("", tickCount=5, labels=False)
    vertical = alt.Y("perplexity:Q", scale=alt.Scale(type="log", domain=domain, nice=False), axis=perplexities)

    def rows(kind: str, *, kept: bool = False) -> alt.InlineData:
        chosen = [point for point in points if point.kind == kind and (point.kept or not kept)]
        about = [{"who": f"{title}, seed {point.seed}", "is": f"{point.perplexity:.1f}"} for point in chosen]
        return data([point._asdict() | more for point, more in zip(chosen, about, strict=True)])

    layers = []
    for kind, dash, opacity in ((IN_TRAINING, [3, 3], 0.55), (HELD_OUT, [1, 0], 0.8)):
        lines = alt.Chart(rows(kind)).mark_line(strokeDash=dash, strokeWidth=1.2, opacity=opacity, color=colour)
        layers.append(lines.encode(horizontal, vertical, detail="seed:N"))
    kept = alt.Chart(rows(HELD_OUT, kept=True))
    marks = kept.mark_point(shape="circle", size=42, filled=False, strokeWidth=1.6, opacity=1, color=css("ink"))
    layers.append(marks.encode(horizontal, vertical, tooltip=["who:N", "step:Q", "is:N"]))
    return panel(layers, width=WIDTH, height=HEIGHT, title=alt.TitleParams(title, color=colour))
