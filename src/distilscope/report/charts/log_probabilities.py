"""Where precision and recall come from: histograms of log-probabilities per sequence, on one axis for everyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from distilscope.report.charts.style import UNIT, Chart, axis, data, finished, panel, said, y
from distilscope.report.groups import Cast, Group
from distilscope.report.palette import css

WIDTH, HEIGHT = 430, 62

COLUMNS = {
    "under_reference": ("precision", "students' draws under p*: their mean is P"),
    "of_reference": ("recall", "p*'s draws under the student: their mean is R"),
}


def log_probabilities(cast: Cast, part: Mapping[str, Any]) -> Chart:
    """A row per kind of student; behind each, p*'s draws under p*, where there is a p* to ask."""
    groups = [(group, found) for group in (*cast.direct, *cast.distilled) for found in part["groups"] if _same(group, found)]
    highest = _highest(part)
    columns = [name for name in COLUMNS if any(found[name] for _, found in groups)]
    rows = []
    for place, (group, found) in enumerate(groups):
        last = place == len(groups) - 1
        rows.append(alt.hconcat(*(_panel(part, group, found, name, highest, first=place == 0, last=last) for name in columns), spacing=30))
    names = "; ".join(COLUMNS[name][1] for name in columns)
    words = f"Histograms of log-probabilities per sequence, in nats, for {', '.join(group.name for group, _ in groups)}. Columns: {names}."
    return finished(alt.vconcat(*rows, spacing=4), words)


def _same(group: Group, found: Mapping[str, Any]) -> bool:
    return found["training"] == group.role and found["selectivity"] == group.selectivity


def _panel(
    part: Mapping[str, Any], group: Group, found: Mapping[str, Any], name: str, highest: float, *, first: bool, last: bool
) -> alt.LayerChart:
    quantity, title = COLUMNS[name]
    low, high = part["edges"][0], part["edges"][-1]
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    under = axis(f"log-probability, {UNIT}") if last else None
    horizontal = alt.X("from:Q", scale=scale, axis=under)
    vertical = y("share", (0.0, highest)).axis(None)
    layers: list[alt.Chart] = []
    if part["reference"]:
        behind = alt.Chart(data(_bars(part["edges"], part["reference"])))
        layers.append(behind.mark_area(interpolate="step-after", color=css("reference"), opacity=0.16).encode(horizontal, vertical))
    if found[name]:
        bars = alt.Chart(data(_bars(part["edges"], found[name]))).mark_area(interpolate="step-after", opacity=0.75, color=css(group.role))
        layers.append(bars.encode(horizontal, vertical))
    interval = group.interval(quantity)
    if interval:
        mean = alt.Chart(data([{"from": interval.mean, "text": said(interval, 0).split(" ")[0]}]))
        layers.append(mean.mark_rule(strokeWidth=1.6, color=css("ink")).encode(horizontal))
        number = mean.mark_text(align="right", baseline="top", dx=-5, dy=2, fontSize=11.5)
        layers.append(number.encode(horizontal, y=alt.value(0), text="text:N"))
    if name == "under_reference" or not part["reference"]:
        word = alt.Chart(data([{"from": low, "text": group.label}]))
        written = word.mark_text(align="left", baseline="top", dx=2, dy=4, color=css(group.role), fontWeight=600)
        layers.append(written.encode(horizontal, y=alt.value(0), text="text:N"))
    if found[name] and found[name]["infinite"]:
        note = alt.Chart(data([{"from": low, "text": f"{found[name]['infinite']} of {found[name]['n']} have probability 0"}]))
        small = note.mark_text(align="left", baseline="top", dx=2, dy=20, fontSize=11)
        layers.append(small.encode(horizontal, y=alt.value(0), text="text:N"))
    return panel(layers, width=WIDTH, height=HEIGHT, title=title if first else None)


def _highest(part: Mapping[str, Any]) -> float:
    """The largest share of any bin, so that areas compare between panels."""
    shown = [part["reference"], *(group[name] for group in part["groups"] for name in COLUMNS)]
    return 1.08 * max(max(one["counts"]) / one["n"] for one in shown if one)


def _bars(edges: Sequence[float], histogram: Mapping[str, Any]) -> list[dict[str, float]]:
    """Share of all draws per bin, so that sets of different sizes compare; the last edge closes the outline."""
    shares = [count / histogram["n"] for count in histogram["counts"]]
    return [{"from": edge, "share": share} for edge, share in zip(edges, [*shares, 0.0], strict=True)]
