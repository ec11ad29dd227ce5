"""Students' recall against the entropy of the selected teacher: what a teacher's selectivity costs its students."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import altair as alt

from distilscope.evaluation.results import Student, Teacher
from distilscope.report.candidates import Candidates, Group
from distilscope.report.charts.labels import Frame, placed
from distilscope.report.charts.style import data, interval_text, panel, span, x, y
from distilscope.report.palette import SHAPES, css


def teacher_entropy(candidates: Candidates, *, width: int, height: int) -> alt.LayerChart | None:
    """None where no setting has both numbers for every seed."""
    pairs = [
        (teacher, student)
        for teacher in candidates.teachers
        for student in candidates.distilled
        if teacher.candidate.setting == student.candidate.setting
    ]
    found = [(mean, pair) for pair in pairs if (mean := _mean(*pair))]
    if not found:
        return None
    means = [mean for mean, _ in found]
    dots = [dot for _, pair in found for dot in _dots(*pair)]
    level = [interval for group in candidates.direct if (interval := group.interval("recall"))]
    across = span([one.entropy for one in (*means, *dots)])
    upright = span([*(one.recall for one in (*means, *dots)), *(interval.mean for interval in level)], pad=0.12)
    horizontal = x("entropy", across, "entropy of the selected teacher", tickCount=5)
    vertical, low = y("recall", upright, "", tickCount=5), y("low", upright)
    layers: list[alt.Chart] = []
    if level:
        row = {"recall": level[0].mean, "low": level[0].low, "high": level[0].high}
        here = alt.Chart(data([row]))
        layers.append(here.mark_rect(opacity=0.12, color=css("direct"), clip=True).encode(low, y2="high:Q"))
        layers.append(here.mark_rule(strokeWidth=1.6, color=css("direct")).encode(vertical))
    seeds = alt.Chart(data(dots)).mark_circle(size=16, opacity=0.32, color=css("distilled"))
    layers.append(seeds.encode(horizontal, vertical, tooltip=["who:N"]))
    bars = alt.Chart(data(means)).mark_rule(
        strokeWidth=1.2, color=css("distilled"), clip=True, opacity=candidates.interval_opacity
    )
    layers.append(bars.encode(horizontal, low, y2="high:Q"))
    points = alt.Chart(data(means)).mark_point(
        shape=SHAPES["distilled"], size=58, filled=True, opacity=1, color=css("distilled")
    )
    layers.append(points.encode(horizontal, vertical, tooltip=["who:N", "H:N", "R:N"]))
    frame = Frame(across, upright, width, height)
    labels = [(one.entropy, one.recall, one.label) for one in means]
    middles = placed(frame, labels, [(one.entropy, one.recall) for one in dots])
    texts = [
        {"entropy": right, "recall": up, "label": label}
        for (_, _, label), (right, up) in zip(labels, middles, strict=True)
    ]
    words = alt.Chart(data(texts)).mark_text(color=css("distilled"), fontWeight=500)
    layers.append(words.encode(horizontal, vertical, text="label:N"))
    return panel(layers, width=width, height=height, title="recall R against the teacher's entropy")


class _Mean(NamedTuple):
    """A row of the data: a setting's means over seeds, and the interval of recall."""

    who: str
    label: str
    H: str
    R: str
    entropy: float
    recall: float
    low: float
    high: float


class _Dot(NamedTuple):
    """A row of the data: one seed."""

    who: str
    entropy: float
    recall: float


def _mean(teacher: Group[Teacher], student: Group[Student]) -> _Mean | None:
    """None where a seed has not both numbers."""
    entropy, recall = teacher.interval("entropy"), student.interval("recall")
    if entropy is None or recall is None:
        return None
    written = interval_text(entropy, 2), interval_text(recall, 2)
    who = student.candidate
    return _Mean(who.name, who.label, *written, entropy.mean, recall.mean, recall.low, recall.high)


def _dots(teacher: Group[Teacher], student: Group[Student]) -> Iterator[_Dot]:
    entropies = {record.seed: record.entropy.mean for record in teacher.records}
    for record in student.records:
        entropy, recall = entropies.get(record.seed), record.recall.mean
        if entropy is not None and recall is not None:
            yield _Dot(f"{student.candidate.name}, seed {record.seed}", entropy, recall)
