"""Precision against recall: what each setting gains and costs, with the control and the ideal frontier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import altair as alt
from msgspec.structs import asdict

from distilscope.evaluation.results import Student
from distilscope.report.candidates import Candidates, Group
from distilscope.report.charts.labels import Frame, placed
from distilscope.report.charts.style import HALO, UNIT, Chart, data, finished, interval_text, own, panel, span, x, y
from distilscope.report.palette import SHAPES, css

WIDTH, HEIGHT = 620, 430
FAR_WIDTH = 300


def frontier(candidates: Candidates) -> Chart | None:
    """None where no candidate has both precision and recall."""
    shown = [group for group in candidates.students if group.interval("precision") and group.interval("recall")]
    if not shown:
        return None
    means = [_mean(candidates, group) for group in shown]
    near, far = _near(candidates, shown, means), _far(candidates, means)
    return finished(alt.hconcat(near, far, spacing=36) if far else near, _words(shown))


class _Mean(NamedTuple):
    """A row of the data: a candidate's means over seeds and their intervals."""

    who: str
    short: str
    place: float | None
    """Along the line that joins the candidates of a role; None for those that no line joins."""
    recommended: bool
    precision: float
    recall: float
    precision_low: float
    precision_high: float
    recall_low: float
    recall_high: float
    P: str
    R: str
    colour: str
    fill: str
    shape: str


class _Dot(NamedTuple):
    """A row of the data: one seed of a candidate."""

    who: str
    precision: float
    recall: float
    colour: str
    shape: str


def _near(candidates: Candidates, shown: list[Group[Student]], means: list[_Mean]) -> alt.LayerChart:
    seeds = [dot for group in shown for dot in _dots(group)]
    # Intervals from few seeds can be wider than everything else, so the frame is made to hold the seeds and clips
    # intervals.
    every = [*means, *seeds]
    level, upright = span([one.recall for one in every], pad=0.1), span([one.precision for one in every], pad=0.1)
    frame = Frame(level, upright, WIDTH, HEIGHT)
    middles = placed(
        frame,
        [(one.recall, one.precision, one.short) for one in means],
        [*((one.recall, one.precision) for one in seeds), *(end for one in means for end in _ends(one))],
    )
    texts = [
        {"recall": across, "precision": up, "short": one.short, "colour": one.colour}
        for one, (across, up) in zip(means, middles, strict=True)
    ]
    horizontal, vertical = x("recall", level, f"recall R, {UNIT} →"), y("precision", upright, f"precision P, {UNIT} →")
    colour, shape = own(alt.Color, "colour"), own(alt.Shape, "shape")
    tooltip = ["who:N", "P:N", "R:N"]
    layers: list[alt.Chart] = []
    for role, dash in (("control", [5, 4]), ("distilled", [1, 0])):
        path = _path(role, shown, means)
        if len(path) > 1:
            line = alt.Chart(data(path)).mark_line(
                strokeDash=dash, strokeWidth=1.4, opacity=0.75, clip=True, color=css(role)
            )
            layers.append(line.encode(horizontal, vertical, order="place:Q"))
    dots = alt.Chart(data(seeds)).mark_point(size=22, filled=True, opacity=0.32, strokeWidth=0)
    layers.append(dots.encode(horizontal, vertical, colour, shape, tooltip=["who:N"]))
    bars = alt.Chart(data(means)).mark_rule(strokeWidth=1.2, clip=True, opacity=candidates.interval_opacity)
    layers.append(bars.encode(x("recall_low", level), vertical, colour, x2="recall_high:Q"))
    layers.append(bars.encode(horizontal, y("precision_low", upright), colour, y2="precision_high:Q"))
    for halo in (True, False):
        words = alt.Chart(data(texts)).mark_text(fontSize=12, fontWeight=600, **(HALO if halo else {}))
        layers.append(words.encode(horizontal, vertical, text="short:N", **({} if halo else {"color": colour})))
    # Under the point, so that a pointer still finds the point.
    ringed = [one for one in means if one.recommended]
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


def _far(candidates: Candidates, means: list[_Mean]) -> alt.LayerChart | None:
    """The same points at a scale that holds p* and the ideal frontier; None without an ideal frontier."""
    ideal = candidates.results.frontier.ideal
    if not ideal:
        return None
    everything = [*ideal, *means]
    horizontal = x("recall", span([one.recall for one in everything], pad=0.12), "R →", tickCount=4)
    vertical = y("precision", span([one.precision for one in everything], pad=0.12), "P →")
    curve = alt.Chart(data([{**asdict(point), "order": place} for place, point in enumerate(ideal)]))
    line = curve.mark_line(strokeDash=[2, 3], strokeWidth=2, color=css("reference")).encode(
        horizontal, vertical, order="order:Q"
    )
    start = alt.Chart(data([asdict(ideal[0])])).mark_point(
        shape=SHAPES["reference"], size=90, filled=True, color=css("reference"), opacity=1
    )
    points = alt.Chart(data(means)).mark_point(size=36, strokeWidth=1.3, opacity=1)
    students = points.encode(
        horizontal, vertical, own(alt.Shape, "shape"), own(alt.Fill, "fill"), own(alt.Stroke, "colour")
    )
    written = [
        alt.Chart(data([{"recall": ideal[0].recall, "precision": ideal[0].precision, "text": text}]))
        .mark_text(align="right", dx=-12, dy=dy, fontSize=11.5)
        .encode(horizontal, vertical, text="text:N")
        for text, dy in (("p*, and the ideal", -7), ("from here upwards", 7))
    ]
    layers = [line, start.encode(horizontal, vertical), students, *written]
    return panel(layers, width=FAR_WIDTH, height=HEIGHT, title="From further away: the ideal")


def _path(role: str, shown: list[Group[Student]], means: list[_Mean]) -> list[_Mean]:
    """The means that a line joins: those at temperatures alone. The control's line runs through the direct student."""
    roles = ("distilled",) if role == "distilled" else ("control", "direct")
    return [
        mean
        for wanted in roles
        for group, mean in zip(shown, means, strict=True)
        if group.candidate.role == wanted and mean.place is not None
    ]


def _mean(candidates: Candidates, group: Group[Student]) -> _Mean:
    precision, recall = group.interval("precision"), group.interval("recall")
    assert precision is not None
    assert recall is not None
    candidate = group.candidate
    recommended = candidate == candidates.results.recommendation.setting
    short = candidate.sampling.label if candidate.sampling else candidate.label
    direct = candidate.role == "direct"  # which is the control at the temperature of evaluation
    return _Mean(
        who=candidate.name,
        short=f"{short}, recommended" if recommended else short,
        place=candidates.results.evaluation_temperature if direct else candidate.temperature,
        recommended=recommended,
        precision=precision.mean,
        recall=recall.mean,
        precision_low=precision.low,
        precision_high=precision.high,
        recall_low=recall.low,
        recall_high=recall.high,
        P=interval_text(precision, 2),
        R=interval_text(recall, 2),
        colour=css(candidate.role),
        fill=css("paper" if candidate.role == "control" else candidate.role),
        shape=SHAPES[candidate.role],
    )


def _ends(mean: _Mean) -> list[tuple[float, float]]:
    """Points along the intervals of a mean, for labels to keep away from."""
    parts = (0.0, 0.33, 0.67, 1.0)
    level = [(mean.recall_low + part * (mean.recall_high - mean.recall_low), mean.precision) for part in parts]
    upright = [(mean.recall, mean.precision_low + part * (mean.precision_high - mean.precision_low)) for part in parts]
    return level + upright


def _dots(group: Group[Student]) -> Iterator[_Dot]:
    candidate = group.candidate
    for record in group.records:
        precision, recall = record.precision.mean, record.recall.mean
        if precision is not None and recall is not None:
            who = f"{candidate.name}, seed {record.seed}"
            yield _Dot(who, precision, recall, css(candidate.role), SHAPES[candidate.role])


def _words(shown: list[Group[Student]]) -> str:
    parts = [
        f"{group.candidate.name}: P {interval_text(group.interval('precision'))}, "
        f"R {interval_text(group.interval('recall'))}"
        for group in shown
    ]
    return f"Precision against recall, {UNIT}, mean and 95% interval over seeds. " + "; ".join(parts) + "."
