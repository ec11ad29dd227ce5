"""The report: one HTML file with everything in it, that asks the network for nothing."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from distilscope.evaluation.candidates import STUDYS_OWN
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.embedding_map import EmbeddingMap
from distilscope.evaluation.results import Results, Student
from distilscope.evaluation.run_record import RunRecord, Stage
from distilscope.report import downloads, nearest_neighbour_table, palette
from distilscope.report.advice import snippets
from distilscope.report.candidates import Candidates, Group
from distilscope.report.charts.frontier import frontier
from distilscope.report.charts.gates import gates
from distilscope.report.charts.log_probabilities import log_probabilities
from distilscope.report.charts.map import MOST, map_of_texts
from distilscope.report.charts.positions import positions
from distilscope.report.charts.settings import against_settings
from distilscope.report.charts.style import Chart
from distilscope.report.charts.trainings import trainings
from distilscope.report.evidence import findings
from distilscope.report.exhibit import Exhibit, shown
from distilscope.report.glossary import GLOSSARY
from distilscope.report.headline import headline
from distilscope.report.numbers import true_minus
from distilscope.report.results_table import COLUMNS, Row, cells, matched_entropy_rows
from distilscope.report.samples import samples
from distilscope.report.sweep_table import of_variant
from distilscope.system.json_files import as_json
from distilscope.system.units import format_bytes, format_duration

PARTS = {
    "log_probabilities": "log-probabilities of sequences",
    "positions": "loss by position",
    "trainings": "training curves",
    "samples": "texts",
}
"""Of an exhibit, as a page calls them."""


def page(*, results: Results, exhibit: Exhibit, run: RunRecord | None = None, map: EmbeddingMap | None = None) -> str:
    """The report's HTML; a run may have left no run.json, and no map.json."""
    candidates, recommended = Candidates(results), results.recommendation.setting
    curves, texts = shown(exhibit.trainings), shown(exhibit.samples)
    histograms, losses = shown(exhibit.log_probabilities), shown(exhibit.positions)
    charts: dict[str, Chart | None] = {
        "frontier": frontier(candidates),
        "settings": against_settings(candidates),
        "gates": gates(candidates),
        "log-probabilities": log_probabilities(candidates, histograms) if histograms else None,
        "positions": positions(candidates, losses) if losses else None,
        "map": map_of_texts(map) if map else None,
        "trainings": trainings(candidates, curves) if curves else None,
    }
    drawn = {name: chart for name, chart in charts.items() if chart}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=f"{results.recipe}: distillation report",
            results=results,
            sources=document_of(results.sources),
            headline=headline(results),
            findings=findings(candidates, curves),
            recommended=recommended,
            charts=drawn,
            numbers={name: place for place, name in enumerate(drawn, start=1)},
            snippets=snippets(recommended, horizon=results.ground_truth.horizon),
            missing=exhibit.missing,
            parts=PARTS,
            columns=list(COLUMNS),
            students=_students(candidates),
            infinite=[group.candidate.name for group in candidates.students if _infinite(group)],
            matched=matched_entropy_rows(results),
            sweep=_sweep(results),
            samples=samples(candidates, texts) if texts else None,
            map=map,
            map_marks=MOST,
            neighbour_columns=nearest_neighbour_table.COLUMNS,
            neighbours=nearest_neighbour_table.rows(map, results) if map else [],
            run=run,
            machine=document_of(run.machine) if run else {},
            stages=_stages(run) if run else [],
            glossary=GLOSSARY,
            bundle=vega_bundle(),
            downloads=_downloads(results, run),
        )
    )


@cache
def vega_bundle() -> str:
    """Vega as one script that defines `vegaEmbed`. It holds nothing that could end the script element around it."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


@cache
def environment() -> Environment:
    """The templates; all that they are given is escaped, unless a template marks it as safe."""
    found = Environment(
        loader=PackageLoader("distilscope.report", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"glyphs": palette.GLYPHS, "colour_variables": palette.variables}
    found.filters |= {"typeset": _typeset, "size": format_bytes, "duration": format_duration}
    return found


def _infinite(group: Group[Student]) -> bool:
    """Whether a seed's precision or recall is infinite, so that there is no mean to draw."""
    return any(estimate.infinite for one in group.records for estimate in (one.precision, one.recall))


def _students(candidates: Candidates) -> list[Row]:
    """The table that a run prints, row by row."""
    return [Row(group.candidate.label, cells(group.records), group.candidate.role) for group in candidates.students]


class _Sweep(NamedTuple):
    """The students of one of a sweep's other sizes, or |D'|."""

    name: str
    verdict: str
    rows: list[Row]


def _sweep(results: Results) -> list[_Sweep]:
    return [
        _Sweep(
            one.variant.label,
            one.trade_off.verdict,
            [Row(candidate.label, cells(students)) for candidate, students in of_variant(results, one.variant).items()],
        )
        for one in results.sweep
        if one.variant != STUDYS_OWN  # the study's own students are in the table before
    ]


class _StageShare(NamedTuple):
    """A stage's share of all worker seconds."""

    name: str
    cost: Stage
    share: float


def _stages(run: RunRecord) -> list[_StageShare]:
    total = sum(stage.worker_seconds for stage in run.stages.values()) or 1.0
    return [_StageShare(name, stage, stage.worker_seconds / total) for name, stage in run.stages.items()]


def _downloads(results: Results, run: RunRecord | None) -> list[downloads.Download]:
    """Without map.json, whose texts would be most of the page."""
    files = [
        downloads.Download.of("results.json", as_json(document_of(results)), "application/json"),
        downloads.Download.of("students.csv", downloads.as_csv(results), "text/csv"),
    ]
    return (
        files
        if run is None
        else [*files, downloads.Download.of("run.json", as_json(document_of(run)), "application/json")]
    )


def _typeset(text: str) -> str:
    """Numbers and formulas of a terminal as a page shows them: true minus signs, and room around the bars of a
    divergence."""
    return true_minus(text).replace("‖", "\N{THIN SPACE}‖\N{THIN SPACE}")
