"""Precision, recall, entropy and both divergences against the teacher's setting, and recall against its entropy: a
panel each."""

from __future__ import annotations

from typing import Any

import altair as alt

from distilscope.report.candidates import Cast, Group
from distilscope.report.charts.style import UNIT, Chart, axis, data, finished, own, panel, said, span, x, y
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


def against_settings(cast: Cast) -> Chart | None:
    """None where nothing was distilled. Quantities that are not to be had are left out."""
    shown = [name for name in PANELS if any(group.interval(name) for group in cast.distilled)]
    if not shown:
        return None
    panels = [_panel(cast, name) for name in shown]
    parts = [
        f"{PANELS[name]}: " + ", ".join(f"{group.label} {said(group.interval(name))}" for group in _all(cast))
        for name in shown
    ]
    words = f"By the teacher's setting, {UNIT}, mean and 95% interval over seeds. " + "; ".join(parts) + "."
    entropy = teacher_entropy(cast, width=WIDTH, height=HEIGHT)
    if entropy:
        panels.append(entropy)
        words += " Last panel: students' recall against the entropy of the teacher that they learnt from."
    return finished(alt.concat(*panels, columns=3, spacing={"row": 30, "column": 34}), words)


def _all(cast: Cast) -> list[Group]:
    return [*cast.distilled, *cast.direct]


def _panel(cast: Cast, name: str) -> alt.LayerChart:
    numbers = all(group.temperature is not None for group in cast.distilled)
    across = _across(cast, numbers)
    means = [_mean(group, name, numbers) for group in (*cast.distilled, *cast.controls) if group.interval(name)]
    dots = [dot for group in cast.distilled for dot in _dots(group, name, numbers)]
    direct = [_mean(group, name, numbers) for group in cast.direct if group.interval(name)]
    upright = span([one["value"] for one in (*means, *dots, *direct)], pad=0.12)
    vertical, low = y("value", upright, "", tickCount=5), y("low", upright)
    colour, shape = own(alt.Color, "colour"), own(alt.Shape, "shape")
    layers: list[alt.Chart] = []
    if direct:  # a level, for it has no teacher
        level = alt.Chart(data(direct))
        layers.append(level.mark_rect(opacity=0.12, color=css("direct"), clip=True).encode(low, y2="high:Q"))
        layers.append(level.mark_rule(strokeWidth=1.6, color=css("direct")).encode(vertical, tooltip=["who:N", "is:N"]))
    for role, dash in (("control", [5, 4]), ("distilled", [1, 0])):
        path = [one for one in means if one["role"] == role]
        if numbers and len(path) > 1:
            line = alt.Chart(data(path)).mark_line(strokeDash=dash, strokeWidth=1.3, opacity=0.75, color=css(role))
            layers.append(line.encode(across, vertical))
    seeds = alt.Chart(data(dots)).mark_point(size=16, filled=True, opacity=0.32, strokeWidth=0)
    layers.append(seeds.encode(across, vertical, colour, shape))
    points = alt.Chart(data(means))
    layers.append(
        points.mark_rule(strokeWidth=1.2, clip=True, opacity=cast.ink).encode(across, low, colour, y2="high:Q")
    )
    marks = points.mark_point(size=58, strokeWidth=1.6, opacity=1)
    layers.append(
        marks.encode(
            across, vertical, shape, own(alt.Fill, "fill"), own(alt.Stroke, "colour"), tooltip=["who:N", "is:N"]
        )
    )
    return panel(layers, width=WIDTH, height=HEIGHT, title=PANELS[name])


def _across(cast: Cast, numbers: bool) -> alt.X:
    """A number where every setting is a temperature, else a name."""
    if not numbers:
        return alt.X(
            "name:N", sort=[group.label for group in cast.distilled], axis=axis("teacher's setting", labelAngle=-30)
        )
    ticks = sorted(group.temperature for group in cast.distilled if group.temperature is not None)
    return x("temperature", span(ticks), "teacher's temperature τ", values=ticks, labelExpr="'' + datum.value")


def _mean(group: Group, name: str, numbers: bool) -> dict[str, Any]:
    interval = group.interval(name)
    assert interval is not None
    hollow = group.role == "control"
    row = _at(group, numbers) | {"value": interval.mean, "low": interval.low, "high": interval.high}
    return row | {
        "who": group.name,
        "is": said(interval, 2),
        "role": group.role,
        "fill": css("paper" if hollow else group.role),
    }


def _dots(group: Group, name: str, numbers: bool) -> list[dict[str, Any]]:
    return [_at(group, numbers) | {"value": value} for value in group.values(name) if value is not None]


def _at(group: Group, numbers: bool) -> dict[str, Any]:
    place = {"temperature": group.temperature} if numbers else {"name": group.label.removeprefix("direct at ")}
    return place | {"colour": css(group.role), "shape": SHAPES[group.role]}
