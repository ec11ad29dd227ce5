"""The audit's page and tables, from a document written by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from distilscope.evaluation.documents import document_of
from distilscope.evaluation.estimate import Interval
from distilscope.report.audit_page import _spread, page, tables


def interval(mean: float, half_width: float | None = None) -> Interval:
    return Interval(mean, half_width, 3)


def row(
    quantity: str, effect: Interval, *, seen: bool, published: float | None = None, unit: str = "nats per sequence"
) -> dict:
    values = {
        "published": published,
        "as_published": document_of(interval(-3.25, 0.5)),
        "by_definition": document_of(interval(-3.0, 0.25)),
        "effect": document_of(effect),
    }
    return {
        "quantity": quantity,
        "unit": unit,
        "seen": seen,
        "means": "it is another number" if seen else "no effect",
        **values,
    }


DOCUMENT = {
    "recipe": "tiny",
    "seeds": 3,
    "ground_truth": {"description": "a model", "reference": "m", "prompt": "The", "dtype": "float32"},
    "sizes": {
        "horizon": 8,
        "num_train": 1,
        "num_validation": 2,
        "num_eval": 3,
        "temperature": 0.7,
        "teacher_parameters": 1000,
        "student_parameters": 100,
        "mixture_seeds": 5,
    },
    "versions": {"distilscope": "0"},
    "traps": [
        {
            "number": 1,
            "title": "A trap",
            "released": "It does this.",
            "definition": "That is meant.",
            "here": "So it is done.",
            "rows": [
                row("P", interval(-0.25, 0.1), seen=True, published=-20.26),
                row("|gap|", interval(0.1, 0.2), seen=False, unit="nats per token"),
                row("R", interval(0.0, 0.0), seen=False),
            ],
            "notes": ["it stopped"],
        }
    ],
}


def test_page():
    text = page(DOCUMENT, written_to="x/audit.md")
    assert "\ndistilscope audit --recipe tiny --seeds 3 --write x/audit.md    # takes minutes\n" in text
    assert "| 1. A trap | P | −20.26 | −3.25 ± 0.50 | −3.00 ± 0.25 | −0.25 ± 0.10 | it is another number |" in text
    assert "|  | \\|gap\\| (nats per token) | – |" in text
    assert (
        "*Effect.* P: −0.25 ± 0.10 nats per sequence; it is another number. Not seen at this size: |gap| "
        "(+0.10 ± 0.20) and R (0.00)."
    ) in text
    assert "\n> it stopped\n" in text


def test_tables_hold_every_row():
    out = io.StringIO()
    Console(file=out, width=140).print(tables(DOCUMENT))
    text = out.getvalue()
    assert all(word in text for word in ("1. A trap", "−20.26", "|gap|", "−3.25 ± 0.50", "3 seeds (5 for mixtures)"))


@pytest.mark.parametrize(
    ("given", "unit", "shown"),
    [
        (interval(0.125, 0.02), "share", "12.5 ± 2.0 %"),
        (interval(1.0, 0.0), "share", "100.0 %"),
        (interval(-192.0, 0.0), "sequences", "−192"),
        (interval(1234.5, 67.8), "tokens", "1,234.50 ± 67.80"),
        (interval(0.1, 0.0089), "nats per token", "0.1000 ± 0.0089"),
        (interval(6.63e-4, 6.7e-5), "nats per token", "(6.63 ± 0.67)·10^−4"),
        (interval(-1e-12, 0.0), "nats per token", "0.00"),
        (interval(2.5), "tokens", "2.50"),
    ],
)
def test_numbers(given, unit, shown):
    assert _spread(given, unit) == shown
