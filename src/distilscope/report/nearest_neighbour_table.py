"""Precision and recall by nearest neighbours beside those by log-probability: as rows, for a terminal and for a
page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.estimate import Interval
from distilscope.report.candidates import Cast
from distilscope.report.results_table import setting_label

COLUMNS = (
    "P = E_q[log p*]",
    "R = E_p*[log q]",
    "precision, k\N{NON-BREAKING HYPHEN}NN",
    "recall, k\N{NON-BREAKING HYPHEN}NN",
)


@dataclass(frozen=True)
class Row:
    role: str
    label: str
    cells: tuple[str, ...]


def rows(map: Mapping[str, Any], results: Mapping[str, Any]) -> list[Row]:
    """Teachers, students and p* itself: P and R of results.json, then by nearest neighbours; mean ± 95% t-interval over
    seeds."""
    cast = Cast(results)
    known = {(group.role, repr(group.selectivity)): group for group in (*cast.teachers, *cast.everyone)}
    found = []
    for one in map["neighbours"]["groups"]:
        group = known.get((one["role"], repr(one["selectivity"])))
        ours = [
            str(interval) if group and (interval := group.interval(name)) else "–" for name in ("precision", "recall")
        ]
        found.append(Row(one["role"], _label(one), (*ours, *_by_neighbours(one))))
    ceiling = map["neighbours"]["ceiling"]
    return found + ([Row("reference", "p*, other draws", ("–", "–", *_by_neighbours(ceiling)))] if ceiling else [])


def second_opinion_table(map: Mapping[str, Any], results: Mapping[str, Any]) -> Table:
    found, embedder = map["neighbours"], map["embedder"]["reference"]
    caption = (
        f"P and R: {results['unit']}. k-NN: shares, {found['k']} nearest neighbours, {found['n_candidate']} texts a "
        "seed against "
        f"{found['n_reference']} of p*, embedded by {embedder}; mean ± 95% t-interval over {results['seeds']} seeds"
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


def _label(one: Mapping[str, Any]) -> str:
    return f"{'teacher, ' * (one['role'] == 'teacher')}{setting_label(one['selectivity'])}"


def _by_neighbours(one: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(Interval.from_json(one[name])) for name in ("precision", "recall"))
