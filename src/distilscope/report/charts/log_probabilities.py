"""Histograms of log-probabilities per sequence, on one axis for all students: where precision and recall come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from distilscope.evaluation.results import Student
from distilscope.report.candidates import Candidates, Group
from distilscope.report.charts.labels import CHARACTER
from distilscope.report.charts.style import UNIT, Chart, data, finished, interval_text, panel, x, y
from distilscope.report.exhibit import Histogram, LogProbabilities, StudentHistograms
from distilscope.report.palette import css

WIDTH, HEIGHT = 430, 62

COLUMNS = {
    "under_reference": ("precision", "students' draws under p*: their mean is P"),
    "of_reference": ("recall", "p*'s draws under the student: their mean is R"),
}


def log_probabilities(candidates: Candidates, found: LogProbabilities) -> Chart:
    """A row per student; behind each, p*'s draws under p*, unless p* is data."""
    by_student = {one.candidate: one for one in found.groups}
    students = [group for group in (*candidates.direct, *candidates.distilled) if group.candidate in by_student]
    rows = _Rows(found, [(group, by_student[group.candidate]) for group in students])
    # Flush: the panels of a column are aligned with each other and with their axis, whatever the width of their labels.
    drawn = [
        alt.vconcat(*(rows.panel(place, column) for place in range(len(rows.students))), spacing=8, bounds="flush")
        for column in rows.columns
    ]
    names = "; ".join(COLUMNS[name][1] for name in rows.columns)
    whose = ", ".join(group.candidate.name for group in students)
    return finished(
        alt.hconcat(*drawn, spacing=30),
        f"Histograms of log-probabilities per sequence, in nats, for {whose}. Columns: {names}.",
    )


@dataclass(frozen=True)
class _Rows:
    found: LogProbabilities
    students: Sequence[tuple[Group[Student], StudentHistograms]]

    @property
    def columns(self) -> list[str]:
        return [name for name in COLUMNS if any(getattr(histograms, name) for _, histograms in self.students)]

    @property
    def highest(self) -> float:
        """The largest share of any bin, so that areas compare between panels."""
        every = [self.found.reference, *(getattr(one, name) for _, one in self.students for name in COLUMNS)]
        return 1.08 * max(max(one.counts) / one.n for one in every if one)

    def panel(self, place: int, column: str) -> alt.LayerChart:
        group, histograms = self.students[place]
        histogram: Histogram | None = getattr(histograms, column)
        quantity, title = COLUMNS[column]
        low, high = self.found.edges[0], self.found.edges[-1]
        under = f"log-probability, {UNIT}" if place == len(self.students) - 1 else None
        horizontal = x("from", (low, high), under)
        if under is None:
            horizontal = horizontal.axis(None)
        vertical = y("share", (0.0, self.highest)).axis(self._name(group) if column == self.columns[0] else None)
        layers: list[alt.Chart] = []
        for shown, colour, opacity in (
            (self.found.reference, css("reference"), 0.16),
            (histogram, css(group.candidate.role), 0.75),
        ):
            if shown:
                bars = alt.Chart(data(_bars(self.found.edges, shown)))
                layers.append(
                    bars.mark_area(interpolate="step-after", color=colour, opacity=opacity).encode(horizontal, vertical)
                )
        interval = group.interval(quantity)
        if interval:
            mean = alt.Chart(data([{"from": interval.mean, "text": interval_text(interval, 0).split(" ")[0]}]))
            layers.append(mean.mark_rule(strokeWidth=1.6, color=css("ink")).encode(horizontal))
            number = mean.mark_text(align="right", baseline="top", dx=-5, dy=2, fontSize=11.5)
            layers.append(number.encode(horizontal, y=alt.value(0), text="text:N"))
        if histogram and histogram.infinite:
            impossible = f"{histogram.infinite} of {histogram.n} have probability 0"
            small = alt.Chart(data([{"from": low, "text": impossible}])).mark_text(
                align="left", baseline="top", dx=2, dy=2, fontSize=11
            )
            layers.append(small.encode(horizontal, y=alt.value(0), text="text:N"))
        return panel(layers, width=WIDTH, height=HEIGHT, title=title if place == 0 else None)

    def _name(self, group: Group[Student]) -> alt.Axis:
        """The row's name in place of the axis of shares, whose numbers no reader needs."""
        who = group.candidate
        room = 10 + (CHARACTER + 0.6) * max(len(one.candidate.label) for one, _ in self.students)
        label = {"values": [0], "labelExpr": json.dumps(who.label, ensure_ascii=False), "labelColor": css(who.role)}
        written: dict[str, Any] = {
            "labelFontWeight": 600,
            "labelBaseline": "bottom",
            "labelLimit": room,
            "minExtent": room,
        }
        return alt.Axis(title=None, domain=False, ticks=False, **label, **written)


def _bars(edges: Sequence[float], histogram: Histogram) -> list[dict[str, float]]:
    """Share of all draws per bin, so that sets of different sizes compare; the last edge closes the outline."""
    shares = [count / histogram.n for count in histogram.counts]
    return [{"from": edge, "share": share} for edge, share in zip(edges, [*shares, 0.0], strict=True)]
