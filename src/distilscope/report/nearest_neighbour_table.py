"""Precision and recall by nearest neighbours next to those by log-probability: rows for a terminal and for a page."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.embedding_map import EmbeddingMap, NeighbourGroup, NeighbourScores
from distilscope.evaluation.results import Results
from distilscope.report.candidates import Candidates
from distilscope.report.results_table import Row

COLUMNS = (
    "P = E_q[log p*]",
    "R = E_p*[log q]",
    "precision, k\N{NON-BREAKING HYPHEN}NN",
    "recall, k\N{NON-BREAKING HYPHEN}NN",
)


def rows(map: EmbeddingMap, results: Results) -> list[Row]:
    """Teachers, students and p* itself: P and R of results.json, then by nearest neighbours; mean ± 95% t-interval over
    seeds."""
    candidates = Candidates(results)
    known = {group.candidate: group for group in (*candidates.teachers, *candidates.students)}
    found = []
    for one in map.neighbours.groups:
        group = known.get(one.candidate)
        ours = [
            str(interval) if group and (interval := group.interval(name)) else "–" for name in ("precision", "recall")
        ]
        found.append(Row(_label(one.candidate), (*ours, *_by_neighbours(one)), one.role))
    ceiling = map.neighbours.ceiling
    return found + ([Row("p*, other draws", ("–", "–", *_by_neighbours(ceiling)), "reference")] if ceiling else [])


def second_opinion_table(map: EmbeddingMap, results: Results) -> Table:
    """What `map` prints: a row per candidate, and one for p* against itself."""
    found = map.neighbours
    caption = (
        f"P and R: {results.unit}. k-NN: shares, {found.k} nearest neighbours, {found.n_candidate} texts a "
        f"seed against {found.n_reference} of p*, embedded by {map.embedder.reference}; mean ± 95% t-interval over "
        f"{results.seeds} seeds"
    )
    table = Table(
        title="A second opinion on precision and recall, by nearest neighbours",
        caption=Text(caption),
        title_justify="left",
    )
    table.add_column("who")
    for column in COLUMNS:
        table.add_column(Text(column), justify="right", no_wrap=True)
    for row in rows(map, results):
        table.add_row(row.label, *row.cells)
    return table


def _label(candidate: Candidate) -> str:
    return f"teacher, {candidate.label}" if candidate.role == "teacher" else candidate.label


def _by_neighbours(found: NeighbourGroup | NeighbourScores) -> tuple[str, str]:
    return str(found.precision), str(found.recall)
