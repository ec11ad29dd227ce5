"""What every chart shares: fonts, axes, scales, data, and compilation from Altair to Vega."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import altair as alt

from distilscope.evaluation.estimate import Interval
from distilscope.report.numbers import of_interval
from distilscope.report.palette import css

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"

UNIT = "nats per sequence"

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "aria": False,  # the page gives each figure its own words
    "view": {"stroke": None},
    "axis": {
        "grid": False,
        "domainColor": css("soft"),
        "tickColor": css("soft"),
        "labelColor": css("ink"),
        "titleColor": css("ink"),
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "tickSize": 4,
    },
    "axisY": {"minExtent": 34},
    "title": {"color": css("ink"), "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 10},
    "text": {"color": css("ink"), "fontSize": 12},
    "header": {"labelColor": css("ink"), "titleColor": css("ink"), "labelFontSize": 12},
}


HALO: dict[str, Any] = {"stroke": css("paper"), "strokeWidth": 4, "strokeJoin": "round", "color": css("paper")}
"""Of a copy in the paper's colour under a text, which keeps it readable on a line."""


@dataclass(frozen=True)
class Chart:
    """A Vega specification, and what it shows in words."""

    spec: dict[str, Any]
    alt: str


def finished(chart: alt.TopLevelMixin, words: str) -> Chart:
    """The chart compiled to Vega, so that a page need not carry Vega-Lite."""
    spec = chart.configure(**CONFIG).to_dict(format="vega")  # type: ignore[attr-defined]
    return Chart(spec, words)


def data(rows: Sequence[Any]) -> alt.InlineData:
    """Rows (dictionaries or named tuples) as JSON text; Altair would copy and validate a list for each layer."""
    rounded = [
        {name: round(value, 5) if isinstance(value, float) else value for name, value in _fields(row).items()}
        for row in rows
    ]
    return alt.InlineData(values=json.dumps(rounded, allow_nan=False), format=alt.JsonDataFormat(type="json"))


def _fields(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else row._asdict()


def span(values: Sequence[float], *, pad: float = 0.08) -> tuple[float, float]:
    """From the lowest to the highest, with a margin of `pad` times their distance on both sides."""
    low, high = min(values), max(values)
    margin = pad * (high - low) or 1.0
    return low - margin, high + margin


def x(field: str, domain: tuple[float, float], title: str | None = None, **options: Any) -> alt.X:
    """A quantitative x channel over exactly this domain; without a title for a layer that shares another's axis."""
    across = alt.X(f"{field}:Q", scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    return across if title is None else across.axis(axis(title, **options))


def y(field: str, domain: tuple[float, float], title: str | None = None, **options: Any) -> alt.Y:
    """A quantitative y channel, as `x`."""
    upwards = alt.Y(f"{field}:Q", scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    return upwards if title is None else upwards.axis(axis(title, **options))


def panel(
    layers: Sequence[alt.Chart], *, width: int, height: int, title: str | alt.TitleParams | None = None
) -> alt.LayerChart:
    """Layers in one frame, of this size in pixels."""
    named = {} if title is None else {"title": title}
    return cast(alt.LayerChart, alt.layer(*layers).properties(width=width, height=height, **named))


def own(channel: Any, field: str) -> Any:
    """A colour or shape that the data hold as it is drawn, without a scale."""
    return channel(f"{field}:N", scale=None)


def axis(title: str, **options: Any) -> alt.Axis:
    given: dict[str, Any] = {"tickCount": 6} | options
    return alt.Axis(title=title, **given)


def interval_text(interval: Interval | None, places: int = 1) -> str:
    """Mean ± half-width, as a chart's words and tooltips show it."""
    return of_interval(interval, places, grouped=True, missing="not available")
