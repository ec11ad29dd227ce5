"""The report: one HTML file with everything in it, that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from distilscope.evaluation.estimate import Interval
from distilscope.report import downloads, nearest_neighbour_table, palette
from distilscope.report.advice import snippets
from distilscope.report.candidates import Cast, Group
from distilscope.report.charts.frontier import frontier
from distilscope.report.charts.gates import gates
from distilscope.report.charts.log_probabilities import log_probabilities
from distilscope.report.charts.map import MOST, map_of_texts
from distilscope.report.charts.positions import positions
from distilscope.report.charts.settings import against_settings
from distilscope.report.charts.style import Chart
from distilscope.report.charts.trainings import trainings
from distilscope.report.evidence import findings
from distilscope.report.glossary import GLOSSARY
from distilscope.report.headline import headline
from distilscope.report.results_table import COLUMNS, by_label, ground_truth_name, over_seeds, setting_label
from distilscope.report.samples import samples
from distilscope.report.sweep_table import variant_label
from distilscope.system.json_files import as_json
from distilscope.system.units import format_bytes, format_duration

PARTS = {
    "log_probabilities": "log-probabilities of sequences",
    "positions": "loss by position",
    "trainings": "training curves",
    "samples": "texts",
}
"""Of an exhibit, as a page calls them."""


def page(
    *,
    results: Mapping[str, Any],
    exhibit: Mapping[str, Any],
    run: Mapping[str, Any] | None = None,
    map: Mapping[str, Any] | None = None,
) -> str:
    """The report's HTML. `exhibit` is what `exhibit.gather` gives, `run` run.json, `map` map.json; both may be
    missing."""
    cast = Cast(results)
    read: dict[str, Any] = {
        name: None if isinstance(part, Mapping) and "missing" in part else part for name, part in exhibit.items()
    }
    missing = {
        name: part["missing"] for name, part in exhibit.items() if isinstance(part, Mapping) and "missing" in part
    }

    def shown(make: Callable[..., Chart | None], part: str) -> Chart | None:
        return None if read[part] is None else make(cast, read[part])

    charts = {
        "frontier": frontier(cast),
        "settings": against_settings(cast),
        "gates": gates(cast),
        "log-probabilities": shown(log_probabilities, "log_probabilities"),
        "positions": shown(positions, "positions"),
        "map": None if map is None else map_of_texts(map),
        "trainings": shown(trainings, "trainings"),
    }
    drawn = {name: chart for name, chart in charts.items() if chart}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            title=f"{results['recipe']}: distillation report",
            results=results,
            truth=ground_truth_name(dict(results)),
            headline=headline(results),
            findings=findings(cast, read["trainings"]),
            cast=cast,
            charts=drawn,
            numbers={name: place for place, name in enumerate(drawn, start=1)},
            snippets=snippets(
                cast.recommended.setting if cast.recommended else None, horizon=results["ground_truth"]["horizon"]
            ),
            missing=missing,
            parts=PARTS,
            table=_table(results),
            infinite=[group.name for group in cast.everyone if _infinite(group)],
            matched=_matched(results),
            sweep=_sweep(results),
            samples=samples(cast, read["samples"]) if read["samples"] else None,
            map=map,
            map_marks=MOST,
            second_opinion=None
            if map is None
            else {
                "columns": nearest_neighbour_table.COLUMNS,
                "rows": nearest_neighbour_table.rows(map, results),
            },
            run=run,
            stages=_stages(run),
            glossary=GLOSSARY,
            bundle=vega_bundle(),
            downloads=_downloads(results, run),
        )
    )


@cache
def vega_bundle() -> str:
    """Vega as one script that defines `vegaEmbed`. It holds nothing that could end the script element it stands in."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


@cache
def environment() -> Environment:
    """Templates with everything escaped unless it is marked as ours."""
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


def _infinite(group: Group) -> bool:
    """Whether a seed's precision or recall is infinite, so that there is no mean to draw."""
    return any(record[name].get("infinite") for record in group.records for name in ("precision", "recall"))


def _table(results: Mapping[str, Any]) -> dict[str, Any]:
    """The table that a run prints, row by row."""
    rows = []
    for label, students in by_label(dict(results)).items():
        role = "direct" if students[0]["training"] == "direct" else "distilled"
        rows.append({"role": role, "label": label, "cells": [over_seeds(students, path) for path in COLUMNS.values()]})
    for group in Cast(results).controls:
        cells = [over_seeds([dict(record) for record in group.records], path) for path in COLUMNS.values()]
        rows.append({"role": "control", "label": group.label, "cells": cells})
    return {"columns": list(COLUMNS), "rows": rows}


def _matched(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What other sampling parameters give beyond temperature at the same entropy of the teacher."""
    names = ("teacher_entropy_per_token", "precision_difference", "recall_difference")
    return [
        {
            "label": setting_label({name: value for name, value in one["setting"].items() if name != "training"}),
            "cells": ["not comparable" if one[name] is None else str(Interval.from_json(one[name])) for name in names],
        }
        for one in results.get("matched_entropy") or ()
    ]


def _sweep(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": variant_label(one["variant"]),
            "verdict": one["trade_off"]["verdict"],
            "rows": [
                {"label": label, "cells": [over_seeds(students, COLUMNS[column]) for column in COLUMNS]}
                for label, students in by_label(dict(results), one["variant"]).items()
            ],
        }
        for one in results.get("sweep") or ()
        if one["variant"]  # the study's own students stand in the table before
    ]


def _stages(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What each stage cost, with its share of all worker seconds."""
    stages = (run or {}).get("stages") or {}
    total = sum(stage["worker_seconds"] for stage in stages.values()) or 1.0
    return [{"name": name, "share": stage["worker_seconds"] / total, **stage} for name, stage in stages.items()]


def _downloads(results: Mapping[str, Any], run: Mapping[str, Any] | None) -> list[downloads.Download]:
    """Without map.json, whose texts would be most of the page."""
    files = [
        downloads.Download.of("results.json", as_json(results), "application/json"),
        downloads.Download.of("students.csv", downloads.as_csv(results), "text/csv"),
    ]
    return files if run is None else [*files, downloads.Download.of("run.json", as_json(run), "application/json")]


def _typeset(text: str) -> str:
    """Numbers and formulas of a terminal as a page shows them: true minus signs, and room around the bars of a
    divergence."""
    return text.replace("-", "−").replace("‖", "\N{THIN SPACE}‖\N{THIN SPACE}")
