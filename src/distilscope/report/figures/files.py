"""Which figures a document gives, and the files that hold them.

What a run or a simulation leaves by itself is at double width; for a paper every figure comes at both widths, with a
caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distilscope.report.figures.figure4 import figure4, figure4_caption
from distilscope.report.figures.figure5 import figure5, figure5_caption
from distilscope.report.figures.mixtures import figure1, figure1_caption, figure2, figure2_caption
from distilscope.report.figures.style import FORMATS, Drawing, write
from distilscope.system.atomic_file import write_atomic

CAPTIONS = "captions.md"


def write_study_figure(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """figure4.png and figure4.pdf of a run, which say themselves what p* is."""
    return write({"figure4": partial(figure4, results, titled=True)}, folder, ("png", "pdf"), {"double": ""})


def write_mixture_figures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Figures 1 and 2 of a simulation of mixtures, as PNG and PDF. Raises UsageError unless it is in 2 dimensions."""
    return write(
        {"figure1": partial(figure1, results), "figure2": partial(figure2, results)},
        folder,
        ("png", "pdf"),
        {"double": ""},
    )


def write_map_figure(map: Mapping[str, Any], folder: Path) -> list[Path]:
    """figure5.png and figure5.pdf of a run's map.json."""
    return write({"figure5": partial(figure5, map)}, folder, ("png", "pdf"), {"double": ""})


def write_for_paper(
    results: Mapping[str, Any], folder: Path, *, map: Mapping[str, Any] | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Every figure that results give, of a run with its map, if there is one, or of mixtures, at both widths; and
    captions.md, the last."""
    found = _of_mixtures(results) if "mixtures" in results else _of_run(results, map)
    drawings = {name: drawing for name, (drawing, _) in found.items()}
    paths = write(drawings, folder, formats, {"single": "-single", "double": "-double"})
    text = "\n\n".join(f"**Figure {name.removeprefix('figure')}.** {caption}" for name, (_, caption) in found.items())
    write_atomic(folder / CAPTIONS, text + "\n")
    return [*paths, folder / CAPTIONS]


def _of_run(results: Mapping[str, Any], map: Mapping[str, Any] | None) -> dict[str, tuple[Drawing, str]]:
    found: dict[str, tuple[Drawing, str]] = {"figure4": (partial(figure4, results), figure4_caption(results))}
    return found if map is None else found | {"figure5": (partial(figure5, map), figure5_caption(map, results))}


def _of_mixtures(results: Mapping[str, Any]) -> dict[str, tuple[Drawing, str]]:
    return {
        "figure1": (partial(figure1, results), figure1_caption(results)),
        "figure2": (partial(figure2, results), figure2_caption(results)),
    }
