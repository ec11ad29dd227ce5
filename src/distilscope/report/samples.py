"""The texts of a report: columns by who wrote them, rows by key, with the surprise that each can be sorted by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distilscope.report.candidates import Cast
from distilscope.report.palette import GLYPHS
from distilscope.report.results_table import setting_label


def samples(cast: Cast, part: Mapping[str, Any]) -> dict[str, Any]:
    """For the page's script: `columns` with role, name, texts and surprises, and which are `shown` at first.

    p*'s draws are held against the recommended student, else the direct one, else the first.
    """
    against = _against(cast, part)
    student = part["students"][against]
    beside = "direct" if student["training"] == "direct" else f"student at {setting_label(student['selectivity'])}"
    columns, shown = [], []
    for place, column in enumerate(part["columns"]):
        role, setting = column["training"], column["selectivity"]
        chosen = role in ("teacher", "distilled") and setting == student["selectivity"]
        if role in ("reference", "direct") or chosen:
            shown.append(place)
        name = {"reference": "p*", "direct": "direct student"}.get(role) or f"{_KIND[role]}, {setting_label(setting)}"
        surprise = column["surprise"][against] if role == "reference" else column["surprise"]
        columns.append(
            {
                "role": role,
                "glyph": GLYPHS[role],
                "name": name,
                "surprised": beside if role == "reference" else "p*",
                "texts": column["texts"],
                "prompts": column["prompts"],
                "surprise": surprise,
                "sortable": any(value is not None for value in surprise),
            }
        )
    return {"columns": columns, "shown": shown, "rows": part["rows"]}


_KIND = {"teacher": "teacher", "distilled": "student"}


def _against(cast: Cast, part: Mapping[str, Any]) -> int:
    wanted = cast.recommended or next(iter(cast.direct), None)
    if wanted:
        for place, one in enumerate(part["students"]):
            if one["training"] == wanted.role and one["selectivity"] == wanted.selectivity:
                return place
    return 0
