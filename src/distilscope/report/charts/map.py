"""The map of texts: p*'s behind each kind of student's, a panel each; every mark says its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from distilscope.report.charts.style import Chart, data, finished, panel, span
from distilscope.report.palette import SHAPES, css
from distilscope.report.table import setting_label

SIDE = 195

MOST = 250
"""Marks of one kind in a panel: more only hide each other, and slow a page down."""

LONGEST = 160
"""Characters of a text beside a mark."""


def map_of_texts(map: Mapping[str, Any]) -> Chart:
    """Students by setting, then the direct one; the same marks of p* behind all."""
    kinds = [(one["role"], one["selectivity"]) for one in map["neighbours"]["groups"] if one["role"] != "teacher"]
    across, upwards = (span([one[name] for one in map["points"]], pad=0.03) for name in ("x", "y"))
    behind = _marks(map, ("reference", None), across, upwards, css("soft"), 0.35)
    panels = []
    for role, setting in sorted(kinds, key=lambda kind: kind[0] == "direct"):
        layers = [behind, _marks(map, (role, setting), across, upwards, css(role), 0.8)]
        title = alt.TitleParams(setting_label(setting), color=css(role))
        panels.append(panel(layers, width=SIDE, height=SIDE, title=title))
    words = (
        "Scatter plots of texts on a plane where texts that mean alike lie near each other: p*'s in grey and, a panel each, those of "
        f"{', '.join(setting_label(setting) for _, setting in kinds)}. The table below says how much they cover of each other."
    )
    return finished(alt.concat(*panels, columns=5, spacing=16), words)


def _marks(
    map: Mapping[str, Any],
    who: tuple[str, Mapping[str, Any] | None],
    across: tuple[float, float],
    upwards: tuple[float, float],
    colour: str,
    opacity: float,
) -> alt.Chart:
    found = [one for one in map["points"] if (one["role"], one["selectivity"]) == who]
    rows = [{"x": one["x"], "y": one["y"], "text": _shortened(one["text"])} for one in _thinned(found)]
    marks = alt.Chart(data(rows)).mark_point(shape=SHAPES[who[0]], size=9, filled=True, opacity=opacity, color=colour)
    horizontal = alt.X("x:Q", scale=alt.Scale(domain=list(across), nice=False, zero=False), axis=None)
    vertical = alt.Y("y:Q", scale=alt.Scale(domain=list(upwards), nice=False, zero=False), axis=None)
    return marks.encode(horizontal, vertical, tooltip=["text:N"])


def _thinned(points: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most `MOST` of them, evenly through their order and so through the seeds."""
    return points if len(points) <= MOST else [points[at * len(points) // MOST] for at in range(MOST)]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
