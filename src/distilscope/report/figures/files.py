"""The paper's figures as files: which figures a run or a simulation gives.

A run or a simulation writes them at double width by itself; for a paper every figure comes at both widths, with a
caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from distilscope.evaluation.embedding_map import EmbeddingMap
from distilscope.evaluation.mixture_results import MixtureResults
from distilscope.evaluation.results import Results
from distilscope.report.figures.figure4 import figure4, figure4_caption
from distilscope.report.figures.figure5 import figure5, figure5_caption
from distilscope.report.figures.mixtures import figure1, figure1_caption, figure2, figure2_caption
from distilscope.report.figures.style import FORMATS, Drawing, write
from distilscope.system.atomic_file import write_atomic

CAPTIONS = "captions.md"


def write_study_figure(results: Results, folder: Path) -> list[Path]:
    """Writes figure4.png and figure4.pdf of a run, titled with p*."""
    return write({"figure4": partial(figure4, results, titled=True)}, folder, ("png", "pdf"), {"double": ""})


def write_mixture_figures(results: MixtureResults, folder: Path) -> list[Path]:
    """Writes figures 1 and 2 of a simulation as PNG and PDF. Raises UsageError unless it is in 2 dimensions."""
    return write(
        {"figure1": partial(figure1, results), "figure2": partial(figure2, results)},
        folder,
        ("png", "pdf"),
        {"double": ""},
    )


def write_map_figure(map: EmbeddingMap, folder: Path) -> list[Path]:
    """Writes figure5.png and figure5.pdf of a run's embedding map."""
    return write({"figure5": partial(figure5, map)}, folder, ("png", "pdf"), {"double": ""})


def write_for_paper(
    results: Results | MixtureResults,
    folder: Path,
    *,
    map: EmbeddingMap | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Writes every figure of a run and its map, or of a simulation of mixtures, at both widths, and captions.md."""
    found = _of_mixtures(results) if isinstance(results, MixtureResults) else _of_run(results, map)
    drawings = {name: drawing for name, (drawing, _) in found.items()}
    paths = write(drawings, folder, formats, {"single": "-single", "double": "-double"})
    text = "\n\n".join(f"**Figure {name.removeprefix('figure')}.** {caption}" for name, (_, caption) in found.items())
    write_atomic(folder / CAPTIONS, text + "\n")
    return [*paths, folder / CAPTIONS]


def _of_run(results: Results, map: EmbeddingMap | None) -> dict[str, tuple[Drawing, str]]:
    found: dict[str, tuple[Drawing, str]] = {"figure4": (partial(figure4, results), figure4_caption(results))}
    return found if map is None else found | {"figure5": (partial(figure5, map), figure5_caption(map, results))}


def _of_mixtures(results: MixtureResults) -> dict[str, tuple[Drawing, str]]:
    return {
        "figure1": (partial(figure1, results), figure1_caption(results)),
        "figure2": (partial(figure2, results), figure2_caption(results)),
    }
