"""Precision, recall, entropy and both divergences against the teacher's setting, and recall against the teacher's
entropy, a panel each."""

from __future__ import annotations

from typing import Any

import altair as alt

from distilscope.evaluation.estimate import Interval
from distilscope.evaluation.results import Student
from distilscope.report.candidates import Candidates, Group
from distilscope.report.charts.style import (
    UNIT,
    Chart,
    axis,
    data,
    finished,
    interval_text,
    own,
    panel,
    span,
    x,
    y,
)
from distilscope.report.charts.teacher_entropy import teacher_entropy
from distilscope.report.palette import SHAPES, css

PANELS = {
    "precision": "precision P (higher is better)",
    "recall": "recall R (higher is better)",
    "candidate_entropy": "entropy H(q)",
    "kl_candidate_reference": "KL(q ‖ p*) (lower is better)",
    "kl_reference_candidate": "KL(p* ‖ q) (lower is better)",
}

WIDTH, HEIGHT = 268, 190


def against_settings(candidates: Candidates) -> Chart | None:
    """None where nothing was distilled. Quantities that cannot be had are left out."""
    shown = [name for name in PANELS if any(group.interval(name) for group in candidates.distilled)]
    if not shown:
        return None
    panels = [_panel(candidates, name) for name in shown]
    parts = [
        f"{PANELS[name]}: "
        + ", ".join(
            f"{group.candidate.label} {interval_text(group.interval(name))}"
            for group in (*candidates.distilled, *candidates.direct)
        )
        for name in shown
    ]
    words = f"By the teacher's setting, {UNIT}, mean and 95% interval over seeds. " + "; ".join(parts) + "."
    entropy = teacher_entropy(candidates, width=WIDTH, height=HEIGHT)
    if entropy:
        panels.append(entropy)
        words += " Last panel: students' recall against the entropy of the teacher that they learnt from."
    return finished(alt.concat(*panels, columns=3, spacing={"row": 30, "column": 34}), words)


def _panel(candidates: Candidates, name: str) -> alt.LayerChart:
    numbers = all(group.candidate.temperature is not None for group in candidates.distilled)
    across = _across(candidates, numbers)
    found = [
        (group, interval)
        for group in (*candidates.distilled, *candidates.controls, *candidates.direct)
        if (interval := group.interval(name))
    ]
    students = [(group, interval) for group, interval in found if group.candidate.role != "direct"]
    direct = [(group, interval) for group, interval in found if group.candidate.role == "direct"]
    seeds = [(group, value) for group in candidates.distilled for value in group.values(name) if value is not None]
    upright = span([*(interval.mean for _, interval in found), *(value for _, value in seeds)], pad=0.12)
    vertical, low = y("value", upright, "", tickCount=5), y("low", upright)
    colour, shape = own(alt.Color, "colour"), own(alt.Shape, "shape")
    layers: list[alt.Chart] = []
    if direct:  # a level, for it has no teacher
        level = alt.Chart(data([_mean(group, interval, numbers) for group, interval in direct]))
        layers.append(level.mark_rect(opacity=0.12, color=css("direct"), clip=True).encode(low, y2="high:Q"))
        layers.append(level.mark_rule(strokeWidth=1.6, color=css("direct")).encode(vertical, tooltip=["who:N", "is:N"]))
    for role, dash in (("control", [5, 4]), ("distilled", [1, 0])):
        path = [_mean(group, interval, numbers) for group, interval in students if group.candidate.role == role]
        if numbers and len(path) > 1:
            line = alt.Chart(data(path)).mark_line(strokeDash=dash, strokeWidth=1.3, opacity=0.75, color=css(role))
            layers.append(line.encode(across, vertical))
    dots = alt.Chart(data([_at(group, numbers) | {"value": value} for group, value in seeds]))
    small = dots.mark_point(size=16, filled=True, opacity=0.32, strokeWidth=0)
    layers.append(small.encode(across, vertical, colour, shape))
    points = alt.Chart(data([_mean(group, interval, numbers) for group, interval in students]))
    bars = points.mark_rule(strokeWidth=1.2, clip=True, opacity=candidates.interval_opacity)
    layers.append(bars.encode(across, low, colour, y2="high:Q"))
    marks = points.mark_point(size=58, strokeWidth=1.6, opacity=1)
    layers.append(
        marks.encode(
            across, vertical, shape, own(alt.Fill, "fill"), own(alt.Stroke, "colour"), tooltip=["who:N", "is:N"]
        )
    )
    return panel(layers, width=WIDTH, height=HEIGHT, title=PANELS[name])


def _across(candidates: Candidates, numbers: bool) -> alt.X:
    """A number where every setting is a temperature, else a name."""
    whose = [group.candidate for group in candidates.distilled]
    if not numbers:
        return alt.X(
            "name:N", sort=[candidate.label for candidate in whose], axis=axis("teacher's setting", labelAngle=-30)
        )
    ticks = sorted(float(one.temperature) for one in whose if one.temperature is not None)
    return x("temperature", span(ticks), "teacher's temperature τ", values=ticks, labelExpr="'' + datum.value")


def _mean(group: Group[Student], interval: Interval, numbers: bool) -> dict[str, Any]:
    """A row of the data: a candidate's mean and interval."""
    candidate = group.candidate
    row = _at(group, numbers) | {"value": interval.mean, "low": interval.low, "high": interval.high}
    return row | {
        "who": candidate.name,
        "is": interval_text(interval, 2),
        "role": candidate.role,
        "fill": css("paper" if candidate.role == "control" else candidate.role),
    }


def _at(group: Group[Student], numbers: bool) -> dict[str, Any]:
    """Where a candidate is on the axis of settings, and its colour and shape."""
    candidate = group.candidate
    sampling = candidate.sampling
    at = {"temperature": candidate.temperature} if numbers else {"name": sampling.label if sampling else "direct"}
    return at | {"colour": css(candidate.role), "shape": SHAPES[candidate.role]}
