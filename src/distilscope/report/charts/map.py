"""The embedding map as scatter plots: p*'s texts behind the teacher's and its students', at a setting that the reader
chooses; each mark's tooltip is its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.embedding_map import EmbeddingMap, MapPoint
from distilscope.report.charts.style import Chart, data, finished, panel, span
from distilscope.report.palette import SHAPES, css

SIDE = 345

MOST = 300
"""Marks of one kind: more only hide each other, and slow a page down."""

LONGEST = 160
"""Characters of a text in a tooltip."""

NAMES = {"teacher": "teacher", "distilled": "distilled student", "direct": "direct student"}

CHOICE = "setting"
"""The Vega parameter and the column of the setting that a reader chooses."""


def map_of_texts(map: EmbeddingMap) -> Chart:
    """A panel each for the teacher, its student and the direct student, where the map has them; the first two show one
    setting."""
    whose = [group.candidate for group in map.neighbours.groups]
    settings = list(dict.fromkeys(one.setting.label for one in whose if one.setting is not None))
    by_role: dict[str, list[dict[str, Any]]] = {role: [] for role in ("reference", *NAMES)}
    for candidate in (Candidate("reference"), *whose):
        found = [point for point in map.points if point.candidate == candidate]
        choice = {} if candidate.setting is None else {CHOICE: candidate.setting.label}
        by_role[candidate.role] += [_row(point) | choice for point in _thinned(found)]
    place = [
        channel(
            f"{name}:Q",
            scale=alt.Scale(domain=list(span([getattr(point, name) for point in map.points], pad=0.03)), nice=False),
            axis=None,
        )
        for channel, name in ((alt.X, "x"), (alt.Y, "y"))
    ]
    behind = _marks("reference", by_role["reference"], place, css("soft"), 0.35)
    panels = []
    for role, name in NAMES.items():
        if not by_role[role]:
            continue
        marks, title = _marks(role, by_role[role], place, css(role), 0.8), alt.TitleParams(name, color=css(role))
        if role != "direct":
            marks = marks.transform_filter(f"datum.{CHOICE} === {CHOICE}")
            title.text = alt.ExprRef(f"'{name}, ' + {CHOICE}")
        panels.append(panel([behind, marks], width=SIDE, height=SIDE, title=title))
    radios = alt.binding_radio(options=settings, name=" ") if len(settings) > 1 else alt.Undefined
    chooser = alt.param(name=CHOICE, value=next(iter(settings), ""), bind=radios)
    shown, chosen = (
        ", ".join(NAMES[role] for role in NAMES if by_role[role]),
        f", at one of {', '.join(settings)}" if settings else "",
    )
    words = (
        "Scatter plots of texts on a plane where texts that mean alike lie near each other: p*'s in grey and before "
        "them, a panel each, "
        f"those of the {shown}{chosen}. The table below says how much they cover of each other."
    )
    return finished(alt.concat(*panels, columns=len(NAMES), spacing=24).add_params(chooser), words)


def _marks(
    role: str, rows: Sequence[dict[str, Any]], place: Sequence[alt.X | alt.Y], colour: str, opacity: float
) -> alt.Chart:
    size = 24 if role == "teacher" else 12  # a triangle fills half of its square
    marks = alt.Chart(data(rows)).mark_point(shape=SHAPES[role], size=size, filled=True, opacity=opacity, color=colour)
    return marks.encode(*place, tooltip=["text:N"])


def _thinned(points: Sequence[MapPoint]) -> Sequence[MapPoint]:
    """At most `MOST` of them, evenly spaced in their order and so over the seeds."""
    return points if len(points) <= MOST else [points[at * len(points) // MOST] for at in range(MOST)]


def _row(point: MapPoint) -> dict[str, Any]:
    text = point.text if len(point.text) <= LONGEST else f"{point.text[:LONGEST]}…"
    return {"x": point.x, "y": point.y, "text": text}
