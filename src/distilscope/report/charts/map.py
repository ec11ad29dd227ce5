"""The map of texts: p*'s behind the teacher's and its students', at the setting that a reader chooses; every mark says
its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from distilscope.report.charts.style import Chart, data, finished, panel, span
from distilscope.report.palette import SHAPES, css
from distilscope.report.results_table import setting_label

SIDE = 345

MOST = 300
"""Marks of one kind: more only hide each other, and slow a page down."""

LONGEST = 160
"""Characters of a text beside a mark."""

NAMES = {"teacher": "teacher", "distilled": "distilled student", "direct": "direct student"}

CHOICE = "setting"
"""What a reader chooses, as the filter and the titles read it."""


def map_of_texts(map: Mapping[str, Any]) -> Chart:
    """A panel for the teacher, for its student and for the direct student, as far as there are any; the first two show
    one setting."""
    groups = map["neighbours"]["groups"]
    settings = list(
        dict.fromkeys(setting_label(one["selectivity"]) for one in groups if one["selectivity"] is not None)
    )
    by_role: dict[str, list[dict[str, Any]]] = {role: [] for role in ("reference", *NAMES)}
    for role, setting in [("reference", None), *((one["role"], one["selectivity"]) for one in groups)]:
        found = [one for one in map["points"] if (one["role"], one["selectivity"]) == (role, setting)]
        by_role[role] += [
            _row(one) | ({} if setting is None else {CHOICE: setting_label(setting)}) for one in _thinned(found)
        ]
    place = [
        channel(
            f"{name}:Q",
            scale=alt.Scale(domain=list(span([one[name] for one in map["points"]], pad=0.03)), nice=False),
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
    choice = alt.param(name=CHOICE, value=next(iter(settings), ""), bind=radios)
    shown, chosen = (
        ", ".join(NAMES[role] for role in NAMES if by_role[role]),
        f", at one of {', '.join(settings)}" if settings else "",
    )
    words = (
        "Scatter plots of texts on a plane where texts that mean alike lie near each other: p*'s in grey and before "
        "them, a panel each, "
        f"those of the {shown}{chosen}. The table below says how much they cover of each other."
    )
    return finished(alt.concat(*panels, columns=len(NAMES), spacing=24).add_params(choice), words)


def _marks(
    role: str, rows: Sequence[dict[str, Any]], place: Sequence[alt.X | alt.Y], colour: str, opacity: float
) -> alt.Chart:
    size = 24 if role == "teacher" else 12  # a triangle fills half of its square
    marks = alt.Chart(data(rows)).mark_point(shape=SHAPES[role], size=size, filled=True, opacity=opacity, color=colour)
    return marks.encode(*place, tooltip=["text:N"])


def _thinned(points: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most `MOST` of them, evenly through their order and so through the seeds."""
    return points if len(points) <= MOST else [points[at * len(points) // MOST] for at in range(MOST)]


def _row(point: Mapping[str, Any]) -> dict[str, Any]:
    text = point["text"]
    return {"x": point["x"], "y": point["y"], "text": text if len(text) <= LONGEST else f"{text[:LONGEST]}…"}
