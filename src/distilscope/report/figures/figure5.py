"""Figure 5 of the paper: a plane on which texts that mean alike lie near each other, p*'s behind those of each
model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distilscope.report.figures.style import MARKERS, ink, sheet
from distilscope.report.results_table import ground_truth_name, setting_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Who = tuple[str, Mapping[str, float | int] | None]
"""A role and the teacher's setting."""

REFERENCE: Who = ("reference", None)
DIRECT: Who = ("direct", None)

MOST = 4
"""Settings side by side: more leave no room."""


def figure5(map: Mapping[str, Any], width: float) -> Figure:
    """Of map.json. At two columns' width the students stand below their teachers; at one, those of the sharpest and the
    mildest setting.

    Below each panel stand its precision and recall by nearest neighbours, below p*'s those of other draws of p*.
    """
    wide = width > 5
    settings = _spread(_settings(map), MOST if wide else 2)
    students: list[Who] = [("distilled", setting) for setting in settings]
    teachers: list[Who] = [("teacher", setting) for setting in settings]
    rows = [[*teachers, REFERENCE], [*students, DIRECT]] if wide else [students, [DIRECT, REFERENCE]]
    side = (width - 0.1) / max(len(row) for row in rows)
    figure = sheet(width, 2 * (side + 0.3))
    panels = figure.subplots(2, max(len(row) for row in rows), squeeze=False, sharex=True, sharey=True)
    for line, row in zip(panels, rows, strict=True):
        for axes in line[len(row) :]:
            axes.set_visible(False)
        for axes, who in zip(line, row, strict=False):
            _panel(axes, map, who)
    return figure


def figure5_caption(map: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    found, umap = map["neighbours"], map["settings"]
    return (
        f"Texts of p* (grey, {found['n_reference']:,} that no model learnt from) and of each model (coloured, "
        f"{found['n_candidate']:,} of "
        f"each of {results['seeds']} seeds), embedded by {map['embedder']['reference']} and laid out by UMAP "
        "(n_neighbors "
        f"{umap['n_neighbors']}, min_dist {umap['min_dist']}, {umap['metric']}, seed {umap['seed']}). Below each "
        "panel: precision | recall "
        f"by {found['k']} nearest neighbours among the embeddings, means over seeds; below p*: of other draws of p*. "
        f"p*: {ground_truth_name(dict(results))}. {map['note']}"
    )


def _panel(axes: Axes, map: Mapping[str, Any], who: Who) -> None:
    axes.set(xticks=[], yticks=[])  # of a map neither axis means anything
    axes.spines[:].set(visible=True, linewidth=0.4, color=ink("soft"))
    if who != REFERENCE:
        _scatter(axes, map, REFERENCE, ink("rule"), 1.0)
    _scatter(axes, map, who, ink(who[0]), 0.6)
    label = setting_label(who[1])
    axes.set_title(
        {"reference": "p*", "direct": "direct student"}.get(who[0]) or f"{_ROLES[who[0]]}, {label}", loc="center"
    )
    axes.set_xlabel(_numbers(map, who), labelpad=2)


_ROLES = {"teacher": "teacher", "distilled": "student"}


def _scatter(axes: Axes, map: Mapping[str, Any], who: Who, colour: str, alpha: float) -> None:
    x, y = (
        np.array([(one["x"], one["y"]) for one in map["points"] if (one["role"], one["selectivity"]) == who])
        .reshape(-1, 2)
        .T
    )
    axes.scatter(x, y, s=2.5, marker=MARKERS[who[0]], color=colour, alpha=alpha, linewidths=0)


def _numbers(map: Mapping[str, Any], who: Who) -> str:
    """Precision and recall by nearest neighbours, means over seeds."""
    found = map["neighbours"]
    one = (
        found["ceiling"]
        if who == REFERENCE
        else next(one for one in found["groups"] if (one["role"], one["selectivity"]) == who)
    )
    return f"{one['precision']['mean']:.2f} | {one['recall']['mean']:.2f}" if one else ""


def _settings(map: Mapping[str, Any]) -> list[Mapping[str, float | int]]:
    return [one["selectivity"] for one in map["neighbours"]["groups"] if one["role"] == "distilled"]


def _spread(settings: Sequence[Mapping[str, float | int]], most: int) -> list[Mapping[str, float | int]]:
    """As many of them as there is room for, the first and the last included."""
    if len(settings) <= most:
        return list(settings)
    return [settings[round(at)] for at in np.linspace(0, len(settings) - 1, most)]
