"""Precision against recall: what a setting gains and what it costs, beside the control and the ideal."""

from __future__ import annotations

from typing import Any

import altair as alt

from distilscope.report.candidates import Cast, Group
from distilscope.report.charts.labels import Frame, placed
from distilscope.report.charts.style import HALO, UNIT, Chart, data, finished, own, panel, said, span, x, y
from distilscope.report.palette import SHAPES, css

WIDTH, HEIGHT = 620, 430
FAR_WIDTH = 300


def frontier(cast: Cast) -> Chart | None:
    """None where precision or recall is not to be had of anyone."""
    shown = [group for group in cast.everyone if group.interval("precision") and group.interval("recall")]
    if not shown:
        return None
    near, far = _near(cast, shown), _far(cast, shown)
    return finished(alt.hconcat(near, far, spacing=36) if far else near, _words(shown))


def _near(cast: Cast, shown: list[Group]) -> alt.LayerChart:
    means, seeds = [_mean(cast, group) for group in shown], [dot for group in shown for dot in _dots(group)]
    # Intervals from few seeds can be wider than everything else: what the frame holds are the seeds, and it cuts an
    # interval off.
    every = [*means, *seeds]
    level, upright = span([one["recall"] for one in every], pad=0.1), span([one["precision"] for one in every], pad=0.1)
    frame = Frame(level, upright, WIDTH, HEIGHT)
    labels = [(one["recall"], one["precision"], one["short"]) for one in means]
    middles = placed(
        frame,
        labels,
        [*((one["recall"], one["precision"]) for one in seeds), *(end for one in means for end in _ends(one))],
    )
    texts = [
        {"recall": across, "precision": up, "short": one["short"], "colour": one["colour"]}
        for one, (across, up) in zip(means, middles, strict=True)
    ]
    horizontal, vertical = x("recall", level, f"recall R, {UNIT} →"), y("precision", upright, f"precision P, {UNIT} →")
    colour, shape = own(alt.Color, "colour"), own(alt.Shape, "shape")
    tooltip = ["who:N", "P:N", "R:N"]
    layers: list[alt.Chart] = []
    for role, dash in (("control", [5, 4]), ("distilled", [1, 0])):
        path = [_mean(cast, group) for group in _path(cast, role)]
        if len(path) > 1:
            line = alt.Chart(data(path)).mark_line(
                strokeDash=dash, strokeWidth=1.4, opacity=0.75, clip=True, color=css(role)
            )
            layers.append(line.encode(horizontal, vertical, order="place:Q"))
    dots = alt.Chart(data(seeds)).mark_point(size=22, filled=True, opacity=0.32, strokeWidth=0)
    layers.append(dots.encode(horizontal, vertical, colour, shape, tooltip=["who:N"]))
    bars = alt.Chart(data(means)).mark_rule(strokeWidth=1.2, clip=True, opacity=cast.ink)
    layers.append(bars.encode(x("recall_low", level), vertical, colour, x2="recall_high:Q"))
    layers.append(bars.encode(horizontal, y("precision_low", upright), colour, y2="precision_high:Q"))
    for halo in (True, False):
        words = alt.Chart(data(texts)).mark_text(fontSize=12, fontWeight=600, **(HALO if halo else {}))
        layers.append(words.encode(horizontal, vertical, text="short:N", **({} if halo else {"color": colour})))
    # Under the point, so that a pointer still finds the point.
    ringed = [one for one in means if one["recommended"]]
    if ringed:
        ring = alt.Chart(data(ringed)).mark_point(
            shape="circle", size=520, strokeWidth=2.2, filled=False, color=css("ink"), opacity=1
        )
        layers.append(ring.encode(horizontal, vertical))
    points = alt.Chart(data(means)).mark_point(size=95, strokeWidth=1.8, opacity=1)
    layers.append(
        points.encode(horizontal, vertical, shape, own(alt.Fill, "fill"), own(alt.Stroke, "colour"), tooltip=tooltip)
    )
    return panel(layers, width=WIDTH, height=HEIGHT, title="Students: what each setting gains and costs")


def _far(cast: Cast, shown: list[Group]) -> alt.LayerChart | None:
    """The same points from further away, with p* and the ideal frontier."""
    ideal = cast.results.get("frontier", {}).get("ideal") or []
    if not ideal:
        return None
    means = [_mean(cast, group) for group in shown]
    everything = [*ideal, *means]
    horizontal = x("recall", span([one["recall"] for one in everything], pad=0.12), "R →", tickCount=4)
    vertical = y("precision", span([one["precision"] for one in everything], pad=0.12), "P →")
    curve = alt.Chart(data([{**point, "order": place} for place, point in enumerate(ideal)]))
    line = curve.mark_line(strokeDash=[2, 3], strokeWidth=2, color=css("reference")).encode(
        horizontal, vertical, order="order:Q"
    )
    start = alt.Chart(data(ideal[:1])).mark_point(
        shape=SHAPES["reference"], size=90, filled=True, color=css("reference"), opacity=1
    )
    points = alt.Chart(data(means)).mark_point(size=36, strokeWidth=1.3, opacity=1)
    students = points.encode(
        horizontal, vertical, own(alt.Shape, "shape"), own(alt.Fill, "fill"), own(alt.Stroke, "colour")
    )
    notes = [
        {"recall": ideal[0]["recall"], "precision": ideal[0]["precision"], "text": "p*, and the ideal"},
        {"recall": ideal[0]["recall"], "precision": ideal[0]["precision"], "text": "from here upwards"},
    ]
    written = [
        alt.Chart(data([note]))
        .mark_text(align="right", dx=-12, dy=dy, fontSize=11.5)
        .encode(horizontal, vertical, text="text:N")
        for note, dy in zip(notes, (-7, 7), strict=True)
    ]
    layers = [line, start.encode(horizontal, vertical), students, *written]
    return panel(layers, width=FAR_WIDTH, height=HEIGHT, title="From further away: the ideal")


def _path(cast: Cast, role: str) -> list[Group]:
    """The groups that a line joins: temperatures alone, in their order. The control's line runs through the direct
    student."""
    groups = cast.distilled if role == "distilled" else [*cast.controls, *cast.direct]
    return [
        group
        for group in groups
        if _place(cast, group) is not None and group.interval("precision") and group.interval("recall")
    ]


def _place(cast: Cast, group: Group) -> float | None:
    """Where a group stands on its line; the direct student is the control at the temperature of evaluation."""
    return cast.results.get("evaluation_temperature", 1.0) if group.role == "direct" else group.temperature


def _mean(cast: Cast, group: Group) -> dict[str, Any]:
    precision, recall = group.interval("precision"), group.interval("recall")
    assert precision is not None
    assert recall is not None
    return {
        "who": group.name,
        "short": _short(cast, group),
        "place": _place(cast, group),
        "recommended": group is cast.recommended,
        "precision": precision.mean,
        "recall": recall.mean,
        "precision_low": precision.low,
        "precision_high": precision.high,
        "recall_low": recall.low,
        "recall_high": recall.high,
        "P": said(precision, 2),
        "R": said(recall, 2),
        "colour": css(group.role),
        "fill": css("paper") if group.role == "control" else css(group.role),
        "shape": SHAPES[group.role],
    }


def _short(cast: Cast, group: Group) -> str:
    label = group.label.removeprefix("direct at ") if group.role == "control" else group.label
    return f"{label}, recommended" if group is cast.recommended else label


def _ends(mean: dict[str, Any]) -> list[tuple[float, float]]:
    """Points along the intervals of a mean, for labels to keep away from."""
    parts = (0.0, 0.33, 0.67, 1.0)
    level = [
        (mean["recall_low"] + part * (mean["recall_high"] - mean["recall_low"]), mean["precision"]) for part in parts
    ]
    return level + [
        (mean["recall"], mean["precision_low"] + part * (mean["precision_high"] - mean["precision_low"]))
        for part in parts
    ]


def _dots(group: Group) -> list[dict[str, Any]]:
    pairs = zip(group.records, group.values("precision"), group.values("recall"), strict=True)
    return [
        {
            "who": f"{group.name}, seed {record['seed']}",
            "precision": p,
            "recall": r,
            "colour": css(group.role),
            "shape": SHAPES[group.role],
        }
        for record, p, r in pairs
        if p is not None and r is not None
    ]


def _words(shown: list[Group]) -> str:
    parts = [
        f"{group.name}: P {said(group.interval('precision'))}, R {said(group.interval('recall'))}" for group in shown
    ]
    return f"Precision against recall, {UNIT}, mean and 95% interval over seeds. " + "; ".join(parts) + "."
