"""The audit as a table on a terminal, and as the page that `--write` leaves."""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct
from rich.console import Group
from rich.table import Table
from rich.text import Text

from distilscope.evaluation.documents import record_of
from distilscope.evaluation.estimate import Interval
from distilscope.report.numbers import true_minus

COLUMNS = ("quantity", "published", "as published, here", "by definition", "effect", "what it means")
WIDTHS = (29, 11, 18, 18, 18, 36)
"""Of the columns on a terminal, in proportion."""


ROUNDING = 1e-9
"""What is smaller is rounding, and shown as zero."""


class Row(Struct, frozen=True, kw_only=True):
    """One quantity as a trap changes it."""

    quantity: str
    unit: str
    published: float | None
    """The paper's own number, where it gives one."""
    as_published: Interval
    by_definition: Interval
    effect: Interval
    seen: bool
    means: str


class Trap(Struct, frozen=True, kw_only=True):
    number: int
    title: str
    released: str
    definition: str
    here: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    """Messages that the definition's own code gives where the trap is met."""


class GroundTruth(Struct, frozen=True, kw_only=True):
    description: str
    reference: str
    prompt: str | None
    dtype: str | None

    @property
    def name(self) -> str:
        return self.description or self.reference


class Sizes(Struct, frozen=True, kw_only=True):
    horizon: int
    num_train: int
    num_validation: int
    num_eval: int
    temperature: float
    mixture_seeds: int
    teacher_parameters: int
    student_parameters: int


class Audit(Struct, frozen=True, kw_only=True):
    """What is shown of the document that `audit --json` prints."""

    recipe: str
    seeds: int
    ground_truth: GroundTruth
    sizes: Sizes
    versions: dict[str, str]
    traps: tuple[Trap, ...]


def tables(document: dict[str, Any]) -> Group:
    """One small table per trap, of the same widths."""
    audit = record_of(document, Audit)
    shown: list[Any] = [f"Each trap of the released code alone, on {audit.ground_truth.name}"]
    for trap in audit.traps:
        one = Table(title=Text(f"{trap.number}. {trap.title}"), title_justify="left", expand=True)
        for column, width in zip(COLUMNS, WIDTHS, strict=True):
            one.add_column(column, justify="left" if column in (COLUMNS[0], COLUMNS[-1]) else "right", ratio=width)
        for row in trap.rows:
            one.add_row(*(Text(cell) for cell in _cells(row)))
        shown.append(one)
    return Group(*shown, Text(_note(audit)))


def page(document: dict[str, Any], *, written_to: str) -> str:
    """The whole audit as Markdown: the table, then a paragraph on each trap."""
    audit = record_of(document, Audit)
    sizes, truth = audit.sizes, audit.ground_truth
    command = f"distilscope audit --recipe {audit.recipe} --seeds {audit.seeds} --write {written_to}    # takes minutes"
    lines = [
        "# The traps of the released code, one at a time",
        "",
        "The code released with Cha & Cho (arXiv 2505.13111) does eleven things that its paper does not tell. Here "
        "each is switched on "
        "alone, beside the definition, with the same random numbers wherever the trap leaves them. The traps live in "
        "the audit's code "
        "and nowhere else in this package. This page is written by",
        "",
        "```sh",
        command,
        "```",
        "",
        f"p*: {truth.name}; prompt {truth.prompt!r}, at most {sizes.horizon} tokens, drawn and scored in "
        f"{truth.dtype}. "
        f"D and D' have {sizes.num_train} sequences, held-out and test sets of p* {sizes.num_validation} and "
        f"{sizes.num_eval}, "
        f"each student {sizes.num_eval} draws; "
        f"teacher {sizes.teacher_parameters:,} and student {sizes.student_parameters:,} parameters; "
        f"training temperature τ = {sizes.temperature:g}. {_note(audit)}",
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in audit.versions.items()) + ".",
        "",
        "| trap | " + " | ".join(COLUMNS) + " |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for trap in audit.traps:
        for i, row in enumerate(trap.rows):
            lines.append(
                "| "
                + " | ".join(
                    _escaped(cell) for cell in (f"{trap.number}. {trap.title}" if i == 0 else "", *_cells(row))
                )
                + " |"
            )
    for trap in audit.traps:
        lines += ["", f"## {trap.number}. {trap.title}", "", *_paragraph(trap)]
    return "\n".join(lines) + "\n"


def _paragraph(trap: Trap) -> list[str]:
    seen, unseen = ([row for row in trap.rows if row.seen == wanted] for wanted in (True, False))
    found = [
        f"{_capital(row.quantity)}: {_spread(row.effect, row.unit, signed=True)}{_unit(row)}; {row.means}."
        for row in seen
    ]
    if unseen:
        found.append("Not seen at this size: " + _listed(unseen) + ".")
    lines = [
        (
            f"*Released code.* {trap.released} *By definition.* {trap.definition} *Here.* {trap.here} "
            f"*Effect.* {' '.join(found)}"
        )
    ]
    if trap.notes:
        lines += ["", "By definition the run would have stopped (seed 0):"]
        for note in trap.notes:
            lines += ["", f"> {note}"]
    return lines


def _listed(rows: list[Row]) -> str:
    cells = [f"{row.quantity} ({_spread(row.effect, row.unit, signed=True)})" for row in rows]
    return cells[0] if len(cells) == 1 else ", ".join(cells[:-1]) + " and " + cells[-1]


def _cells(row: Row) -> tuple[str, ...]:
    """In the order of `COLUMNS`."""
    unit = row.unit
    quantity = (
        row.quantity if unit in ("nats per sequence", "share", "sequences", "step") else f"{row.quantity} ({unit})"
    )
    published = "–" if row.published is None else _number(row.published, 2)
    spreads = (
        _spread(row.as_published, unit),
        _spread(row.by_definition, unit),
        _spread(row.effect, unit, signed=True),
    )
    return quantity, published, *spreads, row.means


def _unit(row: Row) -> str:
    return "" if row.unit in ("share", "step") else f" {row.unit}"


def _spread(interval: Interval, unit: str, *, signed: bool = False) -> str:
    """Mean ± half-width, to as many places as the half-width has something to say about; shares in per cent."""
    scale, sign = (100.0, " %") if unit == "share" else (1.0, "")
    mean, half = interval.mean * scale, (interval.half_width or 0.0) * scale
    mean, half = (0.0 if abs(value) < ROUNDING else value for value in (mean, half))
    plus, largest = "+" if signed and mean > 0 else "", max(abs(mean), half)
    if unit != "share" and 0 < largest < 1e-3:
        power = math.floor(math.log10(largest))
        return f"{plus}({_number(mean / 10**power, 2)} ± {_number(half / 10**power, 2)})·10^{_number(float(power), 0)}"
    places = _places(half, fewest=0 if unit in ("sequences", "step") else 1 if unit == "share" else 2)
    return plus + _number(mean, places) + (f" ± {_number(half, places)}" if half else "") + sign


def _places(value: float, *, fewest: int) -> int:
    """Decimal places that show two digits of the value, but at least `fewest` and at most 6."""
    return min(6, max(fewest, 1 - math.floor(math.log10(abs(value))))) if value else fewest


def _number(value: float, places: int) -> str:
    text = f"{value:,.{places}f}"
    return true_minus(text) if float(text.replace(",", "")) else text.lstrip("-")


def _note(audit: Audit) -> str:
    return (
        f"Means ± 95% t-interval over {audit.seeds} seeds ({audit.sizes.mixture_seeds} for mixtures), nats per "
        "sequence unless said; the effect is the mean of the differences within each seed. A seed varies teacher, D', "
        "students and their draws; D, D_val and p*'s test draws are shared."
    )


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
