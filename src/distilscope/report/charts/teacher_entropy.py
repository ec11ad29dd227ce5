"""What a teacher's selectivity costs its students: the selected teacher's entropy against its students' recall."""

from __future__ import annotations

from typing import Any

import altair as alt

from distilscope.evaluation.estimate import Interval
from distilscope.report.candidates import Cast, Group
from distilscope.report.charts.labels import Frame, placed
from distilscope.report.charts.style import data, panel, said, span, x, y
from distilscope.report.palette import SHAPES, css


def teacher_entropy(cast: Cast, *, width: int, height: int) -> alt.LayerChart | None:
    """None where no setting has both numbers for every seed."""
    pairs = [
        (teacher, student)
        for teacher in cast.teachers
        for student in cast.distilled
        if teacher.selectivity == student.selectivity and teacher.interval("entropy") and student.interval("recall")
    ]
    if not pairs:
        return None
    means = [_mean(teacher, student) for teacher, student in pairs]
    dots = [dot for teacher, student in pairs for dot in _dots(teacher, student)]
    level = [_interval(group, "recall") for group in cast.direct if group.interval("recall")]
    across = span([one["entropy"] for one in (*means, *dots)])
    upright = span([*(one["recall"] for one in (*means, *dots)), *(interval.mean for interval in level)], pad=0.12)
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
    bars = alt.Chart(data(means)).mark_rule(strokeWidth=1.2, color=css("distilled"), clip=True, opacity=cast.ink)
    layers.append(bars.encode(horizontal, low, y2="high:Q"))
    points = alt.Chart(data(means)).mark_point(
        shape=SHAPES["distilled"], size=58, filled=True, opacity=1, color=css("distilled")
    )
    layers.append(points.encode(horizontal, vertical, tooltip=["who:N", "H:N", "R:N"]))
    frame = Frame(across, upright, width, height)
    labels = [(one["entropy"], one["recall"], one["label"]) for one in means]
    middles = placed(frame, labels, [(one["entropy"], one["recall"]) for one in dots])
    texts = [
        {"entropy": right, "recall": up, "label": label}
        for (_, _, label), (right, up) in zip(labels, middles, strict=True)
    ]
    words = alt.Chart(data(texts)).mark_text(color=css("distilled"), fontWeight=500)
    layers.append(words.encode(horizontal, vertical, text="label:N"))
    return panel(layers, width=width, height=height, title="recall R against the teacher's entropy")


def _interval(group: Group, name: str) -> Interval:
    found = group.interval(name)
    assert found is not None
    return found


def _mean(teacher: Group, student: Group) -> dict[str, Any]:
    entropy, recall = _interval(teacher, "entropy"), _interval(student, "recall")
    row = {"who": student.name, "label": student.label, "H": said(entropy, 2), "R": said(recall, 2)}
    return row | {"entropy": entropy.mean, "recall": recall.mean, "low": recall.low, "high": recall.high}


def _dots(teacher: Group, student: Group) -> list[dict[str, Any]]:
    by_seed = {record["seed"]: record["entropy"]["mean"] for record in teacher.records}
    pairs = [(record["seed"], by_seed.get(record["seed"]), record["recall"]["mean"]) for record in student.records]
    return [
        {"who": f"{student.name}, seed {seed}", "entropy": entropy, "recall": recall}
        for seed, entropy, recall in pairs
        if entropy is not None and recall is not None
    ]
