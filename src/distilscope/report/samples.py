"""The texts of a report: columns by who wrote them, rows by key, with the surprise that each can be sorted by."""

from __future__ import annotations

from typing import Any

from distilscope.evaluation.candidates import DIRECT, Candidate
from distilscope.evaluation.documents import document_of
from distilscope.report.candidates import Candidates
from distilscope.report.exhibit import Samples
from distilscope.report.palette import GLYPHS

_KINDS = {"teacher": "teacher", "distilled": "student"}


def samples(candidates: Candidates, part: Samples) -> dict[str, Any]:
    """For the page's script: `columns` with role, name, texts and surprises, and which are `shown` at first.

    p*'s draws are held against the recommended student, else the direct one, else the first.
    """
    student = _against(candidates, part)
    against = "direct" if student.role == "direct" else f"student at {student.label}"
    columns, shown = [], []
    for place, column in enumerate(part.columns):
        role, setting = column.candidate.role, column.candidate.setting
        reference = role == "reference"
        if reference or role == "direct" or (role in _KINDS and setting == student.setting):
            shown.append(place)
        surprise = part.surprise_of_reference[student] if reference else column.surprise or ()
        columns.append(
            {
                "role": role,
                "glyph": GLYPHS[role],
                "name": _name(column.candidate),
                "surprised": against if reference else "p*",
                "texts": document_of(column.texts),
                "prompts": column.prompts,
                "surprise": surprise,
                "sortable": any(value is not None for value in surprise),
            }
        )
    return {"columns": columns, "shown": shown, "rows": part.rows}


def _name(candidate: Candidate) -> str:
    kind = _KINDS.get(candidate.role)
    return f"{kind}, {candidate.label}" if kind else {"direct": "direct student"}.get(candidate.role, candidate.label)


def _against(candidates: Candidates, part: Samples) -> Candidate:
    students = part.surprise_of_reference
    wanted = candidates.recommended.candidate if candidates.recommended else DIRECT
    return wanted if wanted in students else next(iter(students))
