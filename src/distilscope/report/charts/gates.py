"""Whether the draws are what they are said to be: every sampler check on one line, with the limit that stops a run."""

from __future__ import annotations

from typing import Any

import altair as alt

from distilscope.report.candidates import Cast
from distilscope.report.charts.style import Chart, axis, data, finished, own, panel, x
from distilscope.report.palette import SHAPES, css

WIDTH, HEIGHT = 420, 120
LIMIT = 4.0


def gates(cast: Cast) -> Chart | None:
    """None where no check came to a number."""
    rows = checks(cast)
    decided = [row for row in rows if isinstance(row["z"], float)]
    if not decided:
        return None
    order = list(dict.fromkeys(row["lane"] for row in decided))
    domain = (-LIMIT - 0.6, LIMIT + 0.6)
    horizontal = x("z", domain, "z (standard normal where the draws are right)", values=[-4, -2, 0, 2, 4])
    lanes = alt.Y("lane:N", sort=order, axis=axis("", domain=False, ticks=False))
    band = alt.Chart(data([{"low": -1.96, "high": 1.96}])).mark_rect(color=css("rule"), opacity=0.45)
    limits = alt.Chart(data([{"z": -LIMIT}, {"z": LIMIT}])).mark_rule(strokeDash=[3, 3], color=css("soft"))
    points = alt.Chart(data(decided)).mark_point(size=44, filled=True, opacity=0.75)
    marks = points.encode(
        horizontal, lanes, own(alt.Color, "colour"), own(alt.Shape, "shape"), tooltip=["who:N", "is:N"]
    )
    layers = [band.encode(x("low", domain), x2="high:Q"), limits.encode(horizontal), marks]
    worst = max(abs(row["z"]) for row in decided)
    words = (
        f"The sampler check z of {len(decided)} sets of draws: the largest |z| is {worst:.2f}; a run stops beyond "
        f"{LIMIT:g}."
    )
    return finished(panel(layers, width=WIDTH, height=HEIGHT), words)


def checks(cast: Cast) -> list[dict[str, Any]]:
    """Every sampler check of the results: whose draws, and z, a number or a word."""
    truth: Any = cast.results["ground_truth"].get("sampler_check", "not available")
    rows = [_row("reference", "p*", "p*'s test draws", truth)]
    for group in (*cast.teachers, *cast.distilled, *cast.direct, *cast.controls):
        lane = "teachers" if group.role == "teacher" else "students"
        for record in group.records:
            check = record.get("sampler_check", "not available")
            z = check["candidate"] if isinstance(check, dict) else check
            rows.append(_row(group.role, lane, f"{group.name}, seed {record['seed']}", z))
    return rows


def _row(role: str, lane: str, who: str, z: Any) -> dict[str, Any]:
    value = float(z) if isinstance(z, int | float) else z
    row = {"who": who, "role": role, "lane": lane, "colour": css(role), "shape": SHAPES[role]}
    return row | {"z": value, "is": f"z = {value:.2f}" if isinstance(value, float) else value}
