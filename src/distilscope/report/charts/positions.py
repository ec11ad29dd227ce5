"""Mean loss by position in the sequence: of p*'s draws under the students, and of the students' draws under p*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import altair as alt

from distilscope.evaluation.candidates import Candidate
from distilscope.report.candidates import Candidates
from distilscope.report.charts.style import Chart, data, finished, own, panel, span, x, y
from distilscope.report.exhibit import Numbers, Positions
from distilscope.report.palette import css, shade

WIDTH, HEIGHT = 400, 250

PANELS = {
    "of_reference": "p*'s draws: what recall is made of",
    "under_reference": "students' draws: what precision is made of",
}


def positions(candidates: Candidates, found: Positions) -> Chart:
    """A panel for each side whose losses are known, and a curve for each student."""
    by_student = {one.candidate: one for one in found.groups}
    students = [group.candidate for group in (*candidates.distilled, *candidates.direct)]
    students = [student for student in students if student in by_student]
    panels: list[alt.LayerChart] = []
    for name, title in PANELS.items():
        losses = {student: getattr(by_student[student], name) for student in students}
        if any(losses.values()):
            panels.append(_panel(title, losses, found.reference))
    words = (
        f"Mean loss per token by position, in nats, for {', '.join(student.name for student in students)} and, where "
        "it can be asked, p*."
    )
    return finished(alt.hconcat(*panels, spacing=70), words)


class _Point(NamedTuple):
    """A row of the data of a panel."""

    position: int
    loss: float
    who: str
    colour: str
    text: str


def _panel(title: str, losses: dict[Candidate, Numbers | None], reference: Numbers | None) -> alt.LayerChart:
    distilled = [student for student in losses if student.role == "distilled"]
    curves: list[tuple[Candidate, str, Numbers]] = []
    for student, values in losses.items():
        if values:
            pale = student.role == "distilled"
            colour = shade(distilled.index(student), len(distilled)) if pale else css(student.role)
            curves.append((student, colour, values))
    if reference:
        curves.append((Candidate("reference"), css("reference"), reference))
    rows = [
        _Point(place + 1, loss, who.label, colour, f"{loss:.2f} nats")
        for who, colour, values in curves
        for place, loss in enumerate(values)
        if loss is not None
    ]
    low, high = span([row.loss for row in rows], pad=0.06)
    length = max(row.position for row in rows)
    horizontal = x("position", (1.0, float(length)), "position in the sequence, tokens", tickMinStep=1)
    vertical, own_colour = y("loss", (low, high), "loss, nats per token"), own(alt.Color, "colour")
    lines = alt.Chart(data(rows)).mark_line(strokeWidth=1.6).encode(horizontal, vertical, own_colour, detail="who:N")
    points = alt.Chart(data(rows)).mark_point(size=60, opacity=0, filled=True)
    hover = points.encode(horizontal, vertical, own_colour, tooltip=["who:N", "position:Q", "text:N"])
    ends = [(who, [row for row in rows if row.who == who.label][-1]) for who, _, _ in curves]
    heights = _apart([row.loss for _, row in ends], least=14.5 / HEIGHT * (high - low))
    texts = [
        {"position": row.position, "loss": at, "label": who.label, "colour": css(who.role)}
        for (who, row), at in zip(ends, heights, strict=True)
    ]
    names = alt.Chart(data(texts)).mark_text(align="left", dx=6, fontWeight=500, fontSize=11.5)
    written = names.encode(horizontal, vertical, own_colour, text="label:N")
    return panel([lines, hover, written], width=WIDTH, height=HEIGHT, title=title)


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
