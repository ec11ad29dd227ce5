"""Tables and figures of the mixture simulation, from its results alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError
from distilscope.estimate import Interval, t_interval
from distilscope.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table

QUANTITIES = {
    "precision": "precision P",
    "recall": "recall R",
    "candidate_entropy": "H(p″)",
    "kl_candidate_reference": "KL(p″‖p*)",
    "kl_reference_candidate": "KL(p*‖p″)",
}

# Okabe & Ito's palette, told apart under every common colour blindness.
BLACK, BLUE, GREEN, ORANGE, VERMILION = "#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00"

_LEVELS = np.array([0.03, 0.1, 0.25, 0.45, 0.7, 0.93])
"""Contours, as fractions of the density's highest value."""


def table(results: dict[str, Any]) -> Table:
    """P, R, entropy and both divergences by training and beta: mean ± half-width of the 95% t-interval over seeds."""
    from rich.table import Table

    truth = results["ground_truth"]
    method = results["method"]
    how = "exact, by quadrature" if method["name"] == "quadrature" else f"Monte Carlo, {method['num_eval']:,} draws of each side"
    seeds = len({record["seed"] for record in results["students"]})
    caption = (
        f"P = E over p″ of log p*, R = E over p* of log p″, {results['unit']}, {how}; "
        + (f"mean ± half-width of the 95% t-interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval")
        + f"; H(p*) = {_number(truth['entropy']['mean'])}; difficulty is the teacher's, mean over seeds"
    )
    if warnings := results["warnings"]:
        caption += (
            f"\nEM warned {len(warnings)} time(s), first for seed {warnings[0]['seed']}, {warnings[0]['fit']}: {warnings[0]['message']}"
        )
    out = Table(title="Precision and recall of students of Gaussian mixtures", caption=caption)
    out.add_column("student")
    out.add_column("β", justify="right")
    for title in QUANTITIES.values():
        out.add_column(title, justify="right")
    out.add_column("difficulty", justify="right")
    for training, beta in _settings(results["students"]):
        chosen = [record for record in results["students"] if (record["training"], record["beta"]) == (training, beta)]
        hardness = [record["difficulty"] for record in results["teacher"] if training == "distilled" and record["beta"] == beta]
        cells = [_over_seeds(record[name] for record in chosen) for name in QUANTITIES]
        out.add_row(training, _beta(beta), *cells, f"{np.mean(hardness):.1f}" if hardness else "–")
    return out


def as_published_table(results: dict[str, Any]) -> Table:
    """Published | as published here | by definition, for the results of a run with `as_published`."""
    from rich.table import Table

    if "as_published" not in results:
        raise UsageError("these results hold no published steps; run `distilscope mog --as-published`")
    out = Table(
        title="The paper's numbers, its steps repeated here, and its definition",
        caption="Nats per draw. The published precision is scored under the modulated teacher p′(x; β = 100) instead of p*,"
        " and the published recall on the run's own sample. Mean ± half-width of the 95% t-interval over seeds, and the range.",
    )
    out.add_column("student")
    out.add_column("β", justify="right")
    out.add_column("quantity")
    for title in ("published", "as published here", "by definition"):
        out.add_column(title, justify="right")
    for row in results["as_published"]:
        numbers = [_spread(row[name]) for name in ("as_published", "by_definition")]
        out.add_row(row["training"], _beta(row["beta"]), row["quantity"], _number(row["published"]), *numbers)
    return out


def figures(results: dict[str, Any], folder: Path, *, beta: float | str | None = None) -> list[Path]:
    """Figures 1 and 2 of the paper for the first seed, as PNG and PDF files in `folder`; the same results give the same bytes.

    `beta` chooses the distilled student ("inf" for the argmax limit); the most selective one unless given. Raises
    UsageError unless the results are 2-D.
    """
    dimension = results["config"]["dimension"]
    if dimension != 2:
        raise UsageError(f"these results are in {dimension} dimension(s), but the figures show 2; simulate with --dimension 2")
    known = {float(record["beta"]): record for record in results["mixtures"]["distilled"]}
    chosen = max(known) if beta is None else float(beta)
    if chosen not in known:
        raise UsageError(f"beta {chosen:g} was not simulated; choose one of {', '.join(f'{value:g}' for value in known)}")
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, figure in (("figure-1", _figure_1(results)), ("figure-2", _figure_2(results, known[chosen]))):
        for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Creator": None, "Producer": None})):
            paths.append(folder / f"{name}.{kind}")
            with whole_file(paths[-1]) as partial:
                figure.savefig(partial, dpi=150, metadata=metadata)
    return paths


def _figure_1(results: dict[str, Any]) -> Figure:
    mixtures, truth = results["mixtures"], results["ground_truth"]
    figure, (left, right) = _panels(2, f"Ground truth and direct student (seed {mixtures['seed']})", results)
    _contours(left, truth, ORANGE, "density of p*")
    _dots(left, mixtures["points"], BLUE, f"{len(mixtures['points'])} draws of p*")
    _finish(left, "(a) ground truth p*")
    _dots(right, mixtures["points"], BLUE, "draws of p*")
    _contours(right, mixtures["direct"], BLACK, "direct student p″(D)", dashed=True)
    _finish(right, "(b) student trained on draws of p*")
    return figure


def _figure_2(results: dict[str, Any], distilled: dict[str, Any]) -> Figure:
    mixtures, beta = results["mixtures"], _beta(distilled["beta"])
    figure, (left, middle, right) = _panels(3, f"Teacher and distilled student (seed {mixtures['seed']}, β = {beta})", results)
    _contours(left, mixtures["teacher"], ORANGE, "teacher p′")
    _dots(left, mixtures["points"], BLUE, "draws of p*")
    _finish(left, "(a) teacher p′")
    _dots(middle, mixtures["points"], BLUE, "draws of p*", faint=True)
    _dots(middle, distilled["teacher_points"], GREEN, f"draws of p′(x; β = {beta})")
    _finish(middle, f"(b) selected teacher, β = {beta}")
    _dots(right, mixtures["points"], BLUE, "draws of p*", faint=True)
    _contours(right, mixtures["direct"], BLACK, "direct student p″(D)", dashed=True)
    _contours(right, distilled, GREEN, "distilled student p″(D′)")
    _finish(right, "(c) direct and distilled students")
    return figure


def _panels(count: int, title: str, results: dict[str, Any]) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    width, height = 4.5 * count + 0.5, 6.2
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=16, y=0.975)
    panels = list(figure.subplots(1, count, sharex=True, sharey=True))
    # In inches: square panels of 4.2, room above for the titles and below for three lines of legend.
    figure.subplots_adjust(left=0.7 / width, right=1 - 0.15 / width, bottom=1.45 / height, top=1 - 0.85 / height, wspace=0.06)
    drawn = [results["mixtures"]["points"], *(record["teacher_points"] for record in results["mixtures"]["distilled"])]
    reach = max(1.9, *(float(np.abs(points).max()) for points in drawn)) + 0.1
    for axes in panels:
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$x_1$")
        axes.tick_params(labelsize=11)
        axes.xaxis.label.set_size(13)
    panels[0].set_ylabel("$x_2$", fontsize=13)
    return figure, panels


def _contours(axes: Axes, mixture: dict[str, Any], colour: str, label: str, *, dashed: bool = False) -> None:
    low, high = axes.get_xlim()
    axis = np.linspace(low, high, 301)
    x, y = np.meshgrid(axis, axis)
    density = _density(mixture, np.stack([x, y], -1))
    style = "dashed" if dashed else "solid"
    axes.contour(x, y, density, levels=_LEVELS * density.max(), colors=colour, linewidths=1.3, linestyles=style)
    axes.plot([], [], color=colour, linestyle=style, label=label)


def _dots(axes: Axes, points: list[list[float]], colour: str, label: str, *, faint: bool = False) -> None:
    x, y = np.asarray(points).T
    axes.scatter(x, y, s=12 if faint else 18, color=colour, alpha=0.35 if faint else 0.8, linewidths=0, label=label, zorder=3)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=13, pad=8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), fontsize=11.5, frameon=False)


def _density(mixture: dict[str, Any], x: Float[np.ndarray, "*grid d"]) -> Float[np.ndarray, "*grid"]:
    total = np.zeros(x.shape[:-1])
    for weight, mean, covariance in zip(mixture["weights"], mixture["means"], mixture["covariances"], strict=True):
        matrix = np.asarray(covariance)
        away = x - np.asarray(mean)
        distance = (away * np.linalg.solve(matrix, away.reshape(-1, len(mean)).T).T.reshape(away.shape)).sum(-1)
        total += weight * np.exp(-0.5 * distance) / math.sqrt(np.linalg.det(2 * math.pi * matrix))
    return total


def _settings(students: list[dict[str, Any]]) -> list[tuple[str, float | str | None]]:
    """Each (training, beta) once, in the order of the results."""
    return list(dict.fromkeys((record["training"], record["beta"]) for record in students))


def _over_seeds(estimates: Iterable[dict[str, Any]]) -> str:
    means = [estimate["mean"] for estimate in estimates]
    return "infinite" if None in means else _minus(str(t_interval(means)))


def _spread(record: dict[str, Any]) -> str:
    interval = Interval.from_json(record)
    return f"{_minus(str(interval))}\n({_number(record['lowest'])} … {_number(record['highest'])})"


def _number(value: float | None) -> str:
    return "–" if value is None else _minus(f"{value:.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _beta(beta: float | str | None) -> str:
    return "–" if beta is None else "∞" if beta == "inf" else f"{beta:g}"
