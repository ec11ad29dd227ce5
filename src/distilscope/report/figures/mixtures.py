"""Figures 1 and 2 of the paper: mixtures that one seed of a simulation fitted, and the points that they fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError
from distilscope.evaluation.mixture_results import Beta, DistilledMixture, Mixture, MixtureResults, Points
from distilscope.report.figures.style import MARKERS, ink, lettered, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AnyMixture = Mixture | DistilledMixture

_LEVELS = np.array([0.03, 0.1, 0.25, 0.45, 0.7, 0.93])
"""Contours, as fractions of the density's highest value."""

_OUTERMOST = math.sqrt(-2 * math.log(_LEVELS[0]))
"""Standard deviations from a Gaussian's mean to its outermost contour."""


def figure1(results: MixtureResults, width: float) -> Figure:
    """p* with its draws, and the direct student fitted on them; two panels say no more beyond 4.6 inches."""
    _require_plane(results)
    mixtures = results.mixtures
    figure, (left, right) = _panels(
        2, min(width, 4.6), [mixtures.points], [results.ground_truth, mixtures.direct], rows=1
    )
    _points(left, mixtures.points, "reference")
    _contours(left, results.ground_truth, "reference")
    lettered(left, 0, "p*")
    _points(right, mixtures.points, "reference")
    _contours(right, mixtures.direct, "direct")
    lettered(right, 1, "direct student")
    _legend(figure, {"reference": "p* and its draws", "direct": "direct student"})
    return figure


def figure2(results: MixtureResults, width: float, *, beta: Beta | None = None) -> Figure:
    """The teacher, its draws once it is selected, and the student fitted on those beside the direct one.

    `beta` chooses the selectivity ("inf" for the argmax limit); the highest one unless given.
    """
    distilled, mixtures = _distilled(results, beta), results.mixtures
    points, fitted = (
        [mixtures.points, distilled.teacher_points],
        [mixtures.teacher, mixtures.direct, distilled],
    )
    rows = 1 if width > 5 else 2
    figure, (left, middle, right) = _panels(3, width, points, fitted, rows=rows)
    _points(left, mixtures.points, "reference")
    _contours(left, mixtures.teacher, "teacher")
    lettered(left, 0, "teacher p′")
    _points(middle, mixtures.points, "reference", faint=True)
    _points(middle, distilled.teacher_points, "teacher")
    lettered(middle, 1, f"{'selected, ' * (width > 5)}β = {_symbol(distilled.beta)}")
    _points(right, mixtures.points, "reference", faint=True)
    _contours(right, mixtures.direct, "direct")
    _contours(right, distilled, "distilled")
    lettered(right, 2, "students")
    _legend(
        figure,
        {
            "reference": "draws of p*",
            "teacher": "teacher, its draws",
            "direct": "direct student",
            "distilled": "distilled student",
        },
        rows=rows,
    )
    return figure


def figure1_caption(results: MixtureResults) -> str:
    seed, number = results.mixtures.seed, len(results.mixtures.points)
    return (
        f"Gaussian mixtures, seed {seed}. (a) The ground truth p* (contours) and {number} draws of it (diamonds). "
        "(b) The direct student (dashed), fitted on these draws."
    )


def figure2_caption(results: MixtureResults, *, beta: Beta | None = None) -> str:
    distilled = _distilled(results, beta)
    return (
        f"Gaussian mixtures, seed {results.mixtures.seed}. (a) The teacher, fitted on the draws of p* "
        f"(diamonds). (b) Draws of the teacher once its weights are raised to the power β = {_symbol(distilled.beta)} "
        "(triangles). (c) The student fitted on these (solid) and the direct student (dashed). Contours at "
        f"{', '.join(f'{level:g}' for level in _LEVELS)} of each density's highest value."
    )


def _require_plane(results: MixtureResults) -> None:
    dimension = results.config.dimension
    if dimension != 2:
        raise UsageError(
            f"these results are in {dimension} dimension(s), but the figures show 2; simulate with --dimension 2"
        )


def _distilled(results: MixtureResults, beta: Beta | None) -> DistilledMixture:
    _require_plane(results)
    known = {float(record.beta): record for record in results.mixtures.distilled}
    chosen = max(known) if beta is None else float(beta)
    if chosen not in known:
        raise UsageError(
            f"beta {chosen:g} was not simulated; choose one of {', '.join(f'{value:g}' for value in known)}"
        )
    return known[chosen]


def _symbol(beta: Beta) -> str:
    return "∞" if isinstance(beta, str) else f"{beta:g}"


def _panels(
    count: int, width: float, points: Sequence[Points], fitted: Sequence[AnyMixture], *, rows: int
) -> tuple[Figure, list[Axes]]:
    """Square panels side by side on one scale that holds every point and contour, with room for `rows` of legend."""
    side = (width - 0.4) / count - 0.08
    figure = sheet(width, side + 0.62 + 0.18 * rows)
    panels = list(figure.subplots(1, count, sharex=True, sharey=True))
    reach = 0.05 + max(*(float(np.abs(one).max()) for one in points), *(_extent(mixture) for mixture in fitted))
    for axes in panels:
        axes.set(
            xlim=(-reach, reach),
            ylim=(-reach, reach),
            aspect="equal",
            xlabel="$x_1$",
            xticks=(-1, 0, 1),
            yticks=(-1, 0, 1),
        )
    panels[0].set_ylabel("$x_2$", labelpad=0)
    return figure, panels


def _extent(mixture: AnyMixture) -> float:
    """The largest coordinate of any component's outermost contour."""
    deviations = [np.sqrt(np.diagonal(covariance)) for covariance in mixture.covariances]
    return max(
        float((np.abs(mean) + _OUTERMOST * sd).max()) for mean, sd in zip(mixture.means, deviations, strict=True)
    )


def _contours(axes: Axes, mixture: AnyMixture, role: str) -> None:
    low, high = axes.get_xlim()
    axis = np.linspace(low, high, 301)
    x, y = np.meshgrid(axis, axis)
    height = density(mixture, np.stack([x, y], -1))
    style = "dashed" if role == "direct" else "solid"
    light = role == "reference"  # its points, of the same colour, stand among them
    strength = 0.55 if light else 1.0
    axes.contour(
        x,
        y,
        height,
        levels=_LEVELS * height.max(),
        colors=ink(role),
        linewidths=0.5 if light else 0.8,
        linestyles=style,
        alpha=strength,
    )


def _points(axes: Axes, points: Points, role: str, *, faint: bool = False) -> None:
    x, y = np.asarray(points).T
    axes.scatter(x, y, s=4, marker=MARKERS[role], color=ink(role), alpha=0.25 if faint else 0.8, linewidths=0, zorder=3)


def _legend(figure: Figure, names: Mapping[str, str], *, rows: int = 1) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for role, name in names.items():
        marker = MARKERS[role] if role in ("reference", "teacher") else ""
        line: Any = {"direct": "--", "reference": "-" if "and" in name else ""}.get(role, "-")
        handles.append(
            Line2D([], [], color=ink(role), linestyle=line, linewidth=0.9, marker=marker, markersize=2.6, label=name)
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // rows)


def density(mixture: AnyMixture, x: Float[np.ndarray, "*grid d"]) -> Float[np.ndarray, "*grid"]:
    """Of a Gaussian mixture at each point of a grid."""
    total = np.zeros(x.shape[:-1])
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        matrix = np.asarray(covariance)
        away = x - np.asarray(mean)
        distance = (away * np.linalg.solve(matrix, away.reshape(-1, len(mean)).T).T.reshape(away.shape)).sum(-1)
        total += weight * np.exp(-0.5 * distance) / math.sqrt(np.linalg.det(2 * math.pi * matrix))
    return total
