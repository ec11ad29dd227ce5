"""Where in a sequence the loss lies: by position, of p*'s draws under the students and of the students' draws under
p*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from distilscope.report.candidates import Cast, Group
from distilscope.report.charts.style import Chart, data, finished, own, panel, span, x, y
from distilscope.report.palette import css, shade

WIDTH, HEIGHT = 400, 250

PANELS = {
    "of_reference": "p*'s draws: what recall is made of",
    "under_reference": "students' draws: what precision is made of",
}


def positions(cast: Cast, part: Mapping[str, Any]) -> Chart:
    groups = [
        (group, found)
        for group in (*cast.distilled, *cast.direct)
        for found in part["groups"]
        if found["training"] == group.role and found["selectivity"] == group.selectivity
    ]
    shown = [name for name in PANELS if any(found[name] for _, found in groups)]
    words = (
        f"Mean loss per token by position, in nats, for {', '.join(group.name for group, _ in groups)} and, where "
        "it can be asked, p*."
    )
    return finished(alt.hconcat(*(_panel(part, groups, name) for name in shown), spacing=70), words)


def _panel(part: Mapping[str, Any], groups: Sequence[tuple[Group, Mapping[str, Any]]], name: str) -> alt.LayerChart:
    students = [group for group, _ in groups if group.role == "distilled"]
    curves: list[tuple[str, str, str, list[float | None]]] = []
    for group, found in groups:
        if found[name]:
            colour = shade(students.index(group), len(students)) if group.role == "distilled" else css(group.role)
            curves.append((group.label, group.role, colour, found[name]))
    if part["reference"]:
        curves.append(("p*", "reference", css("reference"), part["reference"]))
    rows = [
        {"position": place + 1, "loss": loss, "who": label, "colour": colour, "text": f"{loss:.2f} nats"}
        for label, _, colour, losses in curves
        for place, loss in enumerate(losses)
        if loss is not None
    ]
    low, high = span([row["loss"] for row in rows], pad=0.06)
    length = max(row["position"] for row in rows)
    horizontal = x("position", (1.0, float(length)), "position in the sequence, tokens", tickMinStep=1)
    vertical, colour = y("loss", (low, high), "loss, nats per token"), own(alt.Color, "colour")
    lines = alt.Chart(data(rows)).mark_line(strokeWidth=1.6).encode(horizontal, vertical, colour, detail="who:N")
    points = alt.Chart(data(rows)).mark_point(size=60, opacity=0, filled=True)
    hover = points.encode(horizontal, vertical, colour, tooltip=["who:N", "position:Q", "text:N"])
    ends = [(label, css(role), [row for row in rows if row["who"] == label][-1]) for label, role, _, _ in curves]
    heights = _apart([row["loss"] for _, _, row in ends], least=14.5 / HEIGHT * (high - low))
    texts = [
        {"position": row["position"], "loss": at, "label": label, "colour": colour}
        for (label, colour, row), at in zip(ends, heights, strict=True)
    ]
    names = alt.Chart(data(texts)).mark_text(align="left", dx=6, fontWeight=500, fontSize=11.5)
    written = names.encode(horizontal, vertical, colour, text="label:N")
    return panel([lines, hover, written], width=WIDTH, height=HEIGHT, title=PANELS[name])


def _apart(values: Sequence[float], *, least: float) -> list[float]:
    """The same heights, moved as little as it takes for neighbours to be `least` apart."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    blocks: list[tuple[float, list[int]]] = []
    for at in order:
        blocks.append((values[at], [at]))
        while len(blocks) > 1 and _edge(blocks[-1], least, -1) < _edge(blocks[-2], least, 1):
            members = blocks[-2][1] + blocks[-1][1]
            blocks[-2:] = [(sum(values[one] for one in members) / len(members), members)]
    moved = list(values)
    for middle, members in blocks:
        for place, at in enumerate(members):
            moved[at] = middle + (place - (len(members) - 1) / 2) * least
    return moved


def _edge(block: tuple[float, list[int]], least: float, side: int) -> float:
    return block[0] + side * len(block[1]) * least / 2
