"""How the models learnt: held-out perplexity and training loss by step, a panel per kind of model, the kept checkpoint
marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from distilscope.report.candidates import Cast
from distilscope.report.charts.style import Chart, axis, data, finished, panel, span, x
from distilscope.report.palette import css
from distilscope.report.results_table import setting_label

WIDTH, HEIGHT = 160, 190


def trainings(cast: Cast, part: Sequence[Mapping[str, Any]]) -> Chart | None:
    """None where no model was trained."""
    if not part:
        return None
    order = ["teacher", "direct", *(group.label for group in cast.distilled)]
    panels: dict[str, list[Mapping[str, Any]]] = {name: [] for name in order}
    for one in part:
        panels[_name(one)].append(one)
    shown = {name: ones for name, ones in panels.items() if ones}
    every = [row["perplexity"] for ones in shown.values() for one in ones for row in _rows(one)]
    low, high = span([math.log(value) for value in every], pad=0.06)
    domain = [math.exp(low), math.exp(high)]
    charts = [_panel(name, ones, domain, first=place == 0) for place, (name, ones) in enumerate(shown.items())]
    kept = "; ".join(f"{name}: {_kept(ones)}" for name, ones in shown.items())
    words = (
        "Perplexity per token by training step, each seed a line. Held-out perplexity of the kept checkpoint, "
        f"mean over seeds: {kept}."
    )
    return finished(alt.concat(*charts, columns=6, spacing=14), words)


def _name(one: Mapping[str, Any]) -> str:
    return one["training"] if one["training"] != "distilled" else setting_label(one["selectivity"])


def _rows(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per evaluation: the perplexity on held-out draws, and on the training data since the last one."""
    kinds = {"held_out_loss": "held out", "training_loss": "in training"}
    return [
        {"step": entry["step"], "perplexity": math.exp(min(entry[name], 50.0)), "kind": kind}
        | {"seed": one["seed"], "kept": entry["step"] == one["chosen_step"]}
        for entry in one["history"]
        for name, kind in kinds.items()
    ]


def _kept(ones: Sequence[Mapping[str, Any]]) -> str:
    values = [row["perplexity"] for one in ones for row in _rows(one) if row["kept"] and row["kind"] == "held out"]
    return f"{sum(values) / len(values):.1f}"


def _panel(name: str, ones: Sequence[Mapping[str, Any]], domain: list[float], *, first: bool) -> alt.LayerChart:
    role = name if name in ("teacher", "direct") else "distilled"
    rows: list[dict[str, Any]] = [
        row | {"who": f"{name}, seed {row['seed']}", "is": f"{row['perplexity']:.1f}"}
        for one in ones
        for row in _rows(one)
    ]
    steps = max(row["step"] for row in rows)
    horizontal = x("step", (0.0, steps * 1.04), "training step", tickCount=3)
    beside = axis("perplexity per token", tickCount=5) if first else axis("", tickCount=5, labels=False)
    vertical = alt.Y("perplexity:Q", scale=alt.Scale(type="log", domain=domain, nice=False), axis=beside)
    layers = []
    for kind, dash, opacity in (("in training", [3, 3], 0.55), ("held out", [1, 0], 0.8)):
        lines = alt.Chart(data([row for row in rows if row["kind"] == kind]))
        drawn = lines.mark_line(strokeDash=dash, strokeWidth=1.2, opacity=opacity, color=css(role))
        layers.append(drawn.encode(horizontal, vertical, detail="seed:N"))
    kept = alt.Chart(data([row for row in rows if row["kept"] and row["kind"] == "held out"]))
    marks = kept.mark_point(shape="circle", size=42, filled=False, strokeWidth=1.6, opacity=1, color=css("ink"))
    layers.append(marks.encode(horizontal, vertical, tooltip=["who:N", "step:Q", "is:N"]))
    title = alt.TitleParams(name, color=css(role))
    return panel(layers, width=WIDTH, height=HEIGHT, title=title)
