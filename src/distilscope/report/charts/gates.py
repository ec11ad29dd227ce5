"""Every sampler check on one line, with the limit that stops a run: whether the draws are what they should be."""

from __future__ import annotations

from typing import Any, NamedTuple

import altair as alt

from distilscope.evaluation.candidates import Role
from distilscope.evaluation.results import Sides
from distilscope.report.candidates import Candidates
from distilscope.report.charts.style import Chart, axis, data, finished, own, panel, x
from distilscope.report.palette import SHAPES, css

WIDTH, HEIGHT = 420, 120
LIMIT = 4.0


class Check(NamedTuple):
    """The sampler check of one set of draws."""

    who: str
    role: Role
    lane: str
    """The row of the chart."""
    z: float | str
    """A number, or why there is none."""


def gates(candidates: Candidates) -> Chart | None:
    """None where no check came to a number."""
    rows = checks(candidates)
    decided = [(row, row.z) for row in rows if isinstance(row.z, float)]
    if not decided:
        return None
    order = list(dict.fromkeys(row.lane for row, _ in decided))
    domain = (-LIMIT - 0.6, LIMIT + 0.6)
    horizontal = x("z", domain, "z (standard normal where the draws are right)", values=[-4, -2, 0, 2, 4])
    lanes = alt.Y("lane:N", sort=order, axis=axis("", domain=False, ticks=False))
    band = alt.Chart(data([{"low": -1.96, "high": 1.96}])).mark_rect(color=css("rule"), opacity=0.45)
    limits = alt.Chart(data([{"z": -LIMIT}, {"z": LIMIT}])).mark_rule(strokeDash=[3, 3], color=css("soft"))
    points = alt.Chart(data([_row(row, z) for row, z in decided])).mark_point(size=44, filled=True, opacity=0.75)
    marks = points.encode(
        horizontal, lanes, own(alt.Color, "colour"), own(alt.Shape, "shape"), tooltip=["who:N", "is:N"]
    )
    layers = [band.encode(x("low", domain), x2="high:Q"), limits.encode(horizontal), marks]
    worst = max(abs(z) for _, z in decided)
    words = (
        f"The sampler check z of {len(decided)} sets of draws: the largest |z| is {worst:.2f}; a run stops beyond "
        f"{LIMIT:g}."
    )
    return finished(panel(layers, width=WIDTH, height=HEIGHT), words)


def checks(candidates: Candidates) -> list[Check]:
    """Every sampler check of the results: p*'s test draws first, then each candidate's, seed by seed."""
    rows = [Check("p*'s test draws", "reference", "p*", _number(candidates.results.ground_truth.sampler_check))]
    for group in (*candidates.teachers, *candidates.distilled, *candidates.direct, *candidates.controls):
        role = group.candidate.role
        lane = "teachers" if role == "teacher" else "students"
        for record in group.records:
            check = record.sampler_check
            z = check.candidate if isinstance(check, Sides) else check
            rows.append(Check(f"{group.candidate.name}, seed {record.seed}", role, lane, _number(z)))
    return rows


def _number(z: float | str) -> float | str:
    return z if isinstance(z, str) else float(z)


def _row(check: Check, z: float) -> dict[str, Any]:
    looks = {"colour": css(check.role), "shape": SHAPES[check.role]}
    return {"who": check.who, "role": check.role, "lane": check.lane, **looks, "z": z, "is": f"z = {z:.2f}"}
