"""Figure 4 of the paper: box plots over seeds of precision and recall against the training temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distilscope.report.table import by_label, ground_truth_name
from distilscope.whole_file import whole_file

PANELS = (("precision", r"$E_q[\log p^*]$"), ("recall", r"$E_{p^*}[\log q]$"))

_COLOURS = {"precision": "#0072B2", "recall": "#D55E00"}  # Okabe and Ito's: told apart by colour-blind readers too


def figure4(results: dict[str, Any], folder: Path) -> list[Path]:
    """Writes figure4.png and figure4.pdf; returns their paths. Equal results give equal bytes."""
    groups = by_label(results)
    shown = [panel for panel in PANELS if not results["students"][0][panel[0]].get("not_available")]  # against data: recall alone
    figure = Figure(figsize=(4.5 * len(shown), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, symbol) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        values = [[s[name]["mean"] for s in students if s[name]["mean"] is not None] for students in groups.values()]
        colour = _COLOURS[name]
        axes.boxplot(
            values,
            tick_labels=list(groups),
            widths=0.55,
            showmeans=True,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.25, "edgecolor": colour},
            medianprops={"color": colour, "linewidth": 1.5},
            meanprops={"marker": "D", "markerfacecolor": "black", "markeredgecolor": "black", "markersize": 5},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            flierprops={"marker": ""},
        )
        for position, points in enumerate(values, start=1):
            axes.plot([position] * len(points), points, "o", color=colour, markersize=4, alpha=0.8)
        axes.set_title(f"{name.capitalize()}  {symbol}")
        axes.set_ylabel(results["unit"] + " (higher is better)")
        axes.set_xlabel("student: by its teacher's temperature τ, or direct")
        axes.grid(axis="y", alpha=0.3)
    figure.suptitle(f"{ground_truth_name(results)}; {results['seeds']} seeds; diamonds: means", fontsize=10)
    paths = [folder / "figure4.png", folder / "figure4.pdf"]
    with whole_file(paths[0]) as partial:
        figure.savefig(partial, dpi=160, metadata={"Software": None})
    with whole_file(paths[1]) as partial:
        figure.savefig(partial, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return paths
