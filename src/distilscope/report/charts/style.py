"""What every figure shares: type, axes, the marks of the roles, and the way from Altair to Vega."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import altair as alt

from distilscope.evaluation.estimate import Interval
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
"""Under a text that may lie on a line."""


@dataclass(frozen=True)
class Chart:
    """A figure as Vega draws it, and what it shows in words."""

    spec: dict[str, Any]
    alt: str


def finished(chart: alt.TopLevelMixin, words: str) -> Chart:
    """Compiled to Vega here, so that a page need not carry Vega-Lite."""
    spec = chart.configure(**CONFIG).to_dict(format="vega")  # type: ignore[attr-defined]
    return Chart(spec, words)


def data(rows: Sequence[dict[str, Any]]) -> alt.InlineData:
    """As text, which Altair carries about in one piece; it would copy a list of records for every layer and check each
    of them."""
    rounded = [
        {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]
    return alt.InlineData(values=json.dumps(rounded, allow_nan=False), format=alt.JsonDataFormat(type="json"))


def span(values: Sequence[float], *, pad: float = 0.08) -> tuple[float, float]:
    """From the lowest to the highest with a margin on both sides, a fraction of the distance."""
    low, high = min(values), max(values)
    margin = pad * (high - low) or 1.0
    return low - margin, high + margin


def x(field: str, domain: tuple[float, float], title: str | None = None, **options: Any) -> alt.X:
    """A number across, from end to end of exactly this domain; with no title, for a layer on another's axis."""
    across = alt.X(f"{field}:Q", scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    return across if title is None else across.axis(axis(title, **options))


def y(field: str, domain: tuple[float, float], title: str | None = None, **options: Any) -> alt.Y:
    """A number upwards, likewise."""
    upwards = alt.Y(f"{field}:Q", scale=alt.Scale(domain=list(domain), nice=False, zero=False))
    return upwards if title is None else upwards.axis(axis(title, **options))


def panel(
    layers: Sequence[alt.Chart], *, width: int, height: int, title: str | alt.TitleParams | None = None
) -> alt.LayerChart:
    """Layers in one frame of this many pixels."""
    named = {} if title is None else {"title": title}
    return cast(alt.LayerChart, alt.layer(*layers).properties(width=width, height=height, **named))


def own(channel: Any, field: str) -> Any:
    """A colour or shape that stands in the data as it is to be drawn."""
    return channel(f"{field}:N", scale=None)


def axis(title: str, **options: Any) -> alt.Axis:
    given: dict[str, Any] = {"tickCount": 6} | options
    return alt.Axis(title=title, **given)


def said(interval: Interval | None, places: int = 1) -> str:
    """A number for a reader: true minus signs, and its interval where it has one."""
    if interval is None:
        return "not available"
    text = f"{interval.mean:,.{places}f}" + (
        f" ± {interval.half_width:,.{places}f}" if interval.half_width is not None else ""
    )
    return text.replace("-", "−")
