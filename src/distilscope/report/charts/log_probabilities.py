"""Where precision and recall come from: histograms of log-probabilities per sequence, on one axis for everyone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from distilscope.report.candidates import Cast, Group
from distilscope.report.charts.labels import CHARACTER
from distilscope.report.charts.style import UNIT, Chart, data, finished, panel, said, x, y
from distilscope.report.palette import css

WIDTH, HEIGHT = 430, 62

COLUMNS = {
    "under_reference": ("precision", "students' draws under p*: their mean is P"),
    "of_reference": ("recall", "p*'s draws under the student: their mean is R"),
}

Histogram = Mapping[str, Any]


def log_probabilities(cast: Cast, part: Mapping[str, Any]) -> Chart:
    """A row per kind of student; behind each, p*'s draws under p*, where there is a p* to ask."""
    rows = _Rows(
        part,
        [
            (group, found)
            for group in (*cast.direct, *cast.distilled)
            for found in part["groups"]
            if _same(group, found)
        ],
    )
    # Flush: the panels of a column stand exactly above each other and above the one axis, whatever is written beside
    # them.
    drawn = [
        alt.vconcat(*(rows.panel(place, column) for place in range(len(rows.groups))), spacing=8, bounds="flush")
        for column in range(len(rows.columns))
    ]
    names = "; ".join(COLUMNS[name][1] for name in rows.columns)
    whose = ", ".join(group.name for group, _ in rows.groups)
    return finished(
        alt.hconcat(*drawn, spacing=30),
        f"Histograms of log-probabilities per sequence, in nats, for {whose}. Columns: {names}.",
    )


def _same(group: Group, found: Mapping[str, Any]) -> bool:
    return found["training"] == group.role and found["selectivity"] == group.selectivity


@dataclass(frozen=True)
class _Rows:
    part: Mapping[str, Any]
    groups: list[tuple[Group, Mapping[str, Any]]]

    @property
    def columns(self) -> list[str]:
        return [name for name in COLUMNS if any(found[name] for _, found in self.groups)]

    @property
    def highest(self) -> float:
        """The largest share of any bin, so that areas compare between panels."""
        shown = [self.part["reference"], *(found[name] for _, found in self.groups for name in COLUMNS)]
        return 1.08 * max(max(one["counts"]) / one["n"] for one in shown if one)

    def panel(self, place: int, column: int) -> alt.LayerChart:
        (group, found), name = self.groups[place], self.columns[column]
        quantity, title = COLUMNS[name]
        low, high = self.part["edges"][0], self.part["edges"][-1]
        under = f"log-probability, {UNIT}" if place == len(self.groups) - 1 else None
        horizontal = x("from", (low, high), under)
        if under is None:
            horizontal = horizontal.axis(None)
        vertical = y("share", (0.0, self.highest)).axis(self._name(group) if column == 0 else None)
        layers: list[alt.Chart] = []
        for histogram, colour, opacity in (
            (self.part["reference"], css("reference"), 0.16),
            (found[name], css(group.role), 0.75),
        ):
            if histogram:
                bars = alt.Chart(data(_bars(self.part["edges"], histogram)))
                layers.append(
                    bars.mark_area(interpolate="step-after", color=colour, opacity=opacity).encode(horizontal, vertical)
                )
        interval = group.interval(quantity)
        if interval:
            mean = alt.Chart(data([{"from": interval.mean, "text": said(interval, 0).split(" ")[0]}]))
            layers.append(mean.mark_rule(strokeWidth=1.6, color=css("ink")).encode(horizontal))
            number = mean.mark_text(align="right", baseline="top", dx=-5, dy=2, fontSize=11.5)
            layers.append(number.encode(horizontal, y=alt.value(0), text="text:N"))
        if found[name] and found[name]["infinite"]:
            note = alt.Chart(
                data([{"from": low, "text": f"{found[name]['infinite']} of {found[name]['n']} have probability 0"}])
            )
            small = note.mark_text(align="left", baseline="top", dx=2, dy=2, fontSize=11)
            layers.append(small.encode(horizontal, y=alt.value(0), text="text:N"))
        return panel(layers, width=WIDTH, height=HEIGHT, title=title if place == 0 else None)

    def _name(self, group: Group) -> alt.Axis:
        """Where the axis of shares would be: no reader needs its numbers, but each row needs its name."""
        room = 10 + (CHARACTER + 0.6) * max(len(one.label) for one, _ in self.groups)
        label = {"values": [0], "labelExpr": json.dumps(group.label, ensure_ascii=False), "labelColor": css(group.role)}
        written: dict[str, Any] = {
            "labelFontWeight": 600,
            "labelBaseline": "bottom",
            "labelLimit": room,
            "minExtent": room,
        }
        return alt.Axis(title=None, domain=False, ticks=False, **label, **written)


def _bars(edges: Sequence[float], histogram: Histogram) -> list[dict[str, float]]:
    """Share of all draws per bin, so that sets of different sizes compare; the last edge closes the outline."""
    shares = [count / histogram["n"] for count in histogram["counts"]]
    return [{"from": edge, "share": share} for edge, share in zip(edges, [*shares, 0.0], strict=True)]
