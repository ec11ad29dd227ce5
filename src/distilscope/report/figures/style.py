"""What every figure on paper shares: widths in inches, embedded 8-point type, the roles' colours and shapes, and files.

Equal results give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.report.palette import COLOURS
from distilscope.system.atomic_file import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS = {"single": 3.25, "double": 6.75}
"""Of one column and of two, inches."""

FORMATS = ("pdf", "svg", "png")

POINTS = 8
"""Of all type."""

Drawing = Callable[[float], "Figure"]
"""Draws a figure at a width in inches."""

RC: dict[Any, Any] = {
    "font.family": "STIXGeneral",  # comes with matplotlib, so that a figure is the same everywhere
    "mathtext.fontset": "stix",
    "font.size": POINTS,
    "figure.titlesize": POINTS,
    "axes.labelsize": POINTS,
    "axes.titlesize": POINTS,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "xtick.labelsize": POINTS,
    "ytick.labelsize": POINTS,
    "legend.fontsize": POINTS,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.0,
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,  # TrueType, whole: journals refuse Type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "distilscope",
    "savefig.dpi": 300,
}

MARKERS = {"reference": "D", "teacher": "^", "distilled": "o", "direct": "s", "control": "s"}
"""By role, the shapes of every other chart; a control's is hollow."""

_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


def ink(role: str) -> str:
    """A role's colour on white paper."""
    return COLOURS[role][0]


def sheet(width: float, height: float) -> Figure:
    """An empty figure of this size, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.04, hspace=0.04)  # type: ignore[union-attr]
    FigureCanvasAgg(figure)
    return figure


def lettered(axes: Axes, place: int | None, title: str) -> None:
    """Sets a panel's title, "(a) precision"; without a letter where it is the only panel."""
    axes.set_title(title if place is None else f"({'abcdefghijklmnopqrstuvwxyz'[place]}) {title}")


def write(
    drawings: Mapping[str, Drawing], folder: Path, formats: Sequence[str], widths: Mapping[str, str]
) -> list[Path]:
    """Writes each drawing in each format, at each of `widths`: a key of `WIDTHS` to a suffix of the file's name."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with matplotlib.rc_context(RC):
        for name, draw in drawings.items():
            for width, suffix in widths.items():
                figure = draw(WIDTHS[width])
                for kind in formats:
                    paths.append(folder / f"{name}{suffix}.{kind}")
                    with atomic_file(paths[-1]) as partial:
                        figure.savefig(partial, metadata=_METADATA[kind])
    return paths
