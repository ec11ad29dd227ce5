"""Figure 5 of the paper: the embedding map, p*'s texts behind those of each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.evaluation.embedding_map import EmbeddingMap
from distilscope.evaluation.results import Results
from distilscope.report.figures.style import MARKERS, ink, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE = Candidate("reference")

MOST = 4
"""Settings side by side: more leave no room."""


def figure5(map: EmbeddingMap, width: float) -> Figure:
    """Of an embedding map. At two columns' width the students are below their teachers; at one, only the students of
    the first and the last setting are shown.

    Below each panel are its precision and recall by nearest neighbours, below p*'s those of other draws of p*.
    """
    wide = width > 5
    students = _spread(
        [group.candidate for group in map.neighbours.groups if group.role == "distilled"], MOST if wide else 2
    )
    teachers = [Candidate("teacher", student.setting) for student in students]
    rows = [[*teachers, REFERENCE], [*students, DIRECT]] if wide else [students, [DIRECT, REFERENCE]]
    side = (width - 0.1) / max(len(row) for row in rows)
    figure = sheet(width, 2 * (side + 0.3))
    panels = figure.subplots(2, max(len(row) for row in rows), squeeze=False, sharex=True, sharey=True)
    for line, row in zip(panels, rows, strict=True):
        for axes in line[len(row) :]:
            axes.set_visible(False)
        for axes, candidate in zip(line, row, strict=False):
            _panel(axes, map, candidate)
    return figure


def figure5_caption(map: EmbeddingMap, results: Results) -> str:
    found, umap = map.neighbours, map.settings
    return (
        f"Texts of p* (grey, {found.n_reference:,} that no model learnt from) and of each model (coloured, "
        f"{found.n_candidate:,} of each of {results.seeds} seeds), embedded by {map.embedder.reference} and laid out "
        f"by UMAP (n_neighbors {umap.n_neighbors}, min_dist {umap.min_dist}, {umap.metric}, seed {umap.seed}). Below "
        f"each panel: precision | recall by {found.k} nearest neighbours among the embeddings, means over seeds; below "
        f"p*: of other draws of p*. p*: {results.ground_truth.name}. {map.note}"
    )


def _panel(axes: Axes, map: EmbeddingMap, candidate: Candidate) -> None:
    axes.set(xticks=[], yticks=[])  # of a map neither axis means anything
    axes.spines[:].set(visible=True, linewidth=0.4, color=ink("soft"))
    if candidate != REFERENCE:
        _scatter(axes, map, REFERENCE, ink("rule"), 1.0)
    _scatter(axes, map, candidate, ink(candidate.role), 0.6)
    axes.set_title(_title(candidate), loc="center")
    axes.set_xlabel(_scores(map, candidate), labelpad=2)


def _title(candidate: Candidate) -> str:
    kind = {"teacher": "teacher", "distilled": "student"}.get(candidate.role)
    if kind:
        return f"{kind}, {candidate.label}"
    return "direct student" if candidate == DIRECT else candidate.label


def _scatter(axes: Axes, map: EmbeddingMap, candidate: Candidate, colour: str, alpha: float) -> None:
    x, y = np.array([(one.x, one.y) for one in map.points if one.candidate == candidate]).reshape(-1, 2).T
    axes.scatter(x, y, s=2.5, marker=MARKERS[candidate.role], color=colour, alpha=alpha, linewidths=0)


def _scores(map: EmbeddingMap, candidate: Candidate) -> str:
    """Precision and recall by nearest neighbours, means over seeds; nothing for p* without other draws."""
    found = map.neighbours
    scores = (
        found.ceiling
        if candidate == REFERENCE
        else next(group for group in found.groups if group.candidate == candidate)
    )
    return f"{scores.precision.mean:.2f} | {scores.recall.mean:.2f}" if scores else ""


def _spread(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    """At most `most` of them, evenly spaced, the first and the last included."""
    if len(candidates) <= most:
        return list(candidates)
    return [candidates[round(at)] for at in np.linspace(0, len(candidates) - 1, most)]
