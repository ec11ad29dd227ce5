"""The table of a sweep: what a student's size and |D'| do to its precision and recall, and what each cost in training
tokens."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.candidates import Candidate, Variant
from distilscope.evaluation.estimate import t_interval
from distilscope.evaluation.results import Results, Student, by_candidate
from distilscope.report.numbers import plus_minus
from distilscope.report.results_table import cells

SHOWN = ("P = E_q[log p*]", "R = E_p*[log q]", "KL(q‖p*)", "KL(p*‖q)")


def sweep_table(results: Results) -> Table:
    """A block per variant, a row per kind of student; the last column says whether the trade-off holds over the block's
    temperatures."""
    table = Table(title=f"Sweep, {results.unit}: mean ± 95% t-interval over seeds", title_justify="left")
    table.add_column("variant")
    table.add_column("student")
    for column in (*SHOWN, "training tokens"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    table.add_column("trade-off")
    for one in results.sweep:
        name, verdict = one.variant.label, one.trade_off.verdict
        for candidate, students in of_variant(results, one.variant).items():
            table.add_row(name, candidate.label, *cells(students, SHOWN), _tokens(students), verdict)
            name = verdict = ""
        table.add_section()
    return table


def of_variant(results: Results, variant: Variant) -> dict[Candidate, list[Student]]:
    """The students of one size and |D'|."""
    return by_candidate([student for student in results.students if student.variant == variant])


def _tokens(students: Sequence[Student]) -> str:
    """Tokens trained on, repeats counted; 0 where the model was kept as it is."""
    found = t_interval([float(one.checkpoint.tokens) if one.checkpoint else 0.0 for one in students])
    return plus_minus(found.mean, found.half_width or None, 0, grouped=True)
