"""The table of a sweep: what a student's size and |D'| do to its precision and recall, and what each cost in training
tokens."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.estimate import t_interval
from distilscope.report.results_table import COLUMNS, by_label, over_seeds

SHOWN = ("P = E_q[log p*]", "R = E_p*[log q]", "KL(q‖p*)", "KL(p*‖q)")


def sweep_table(results: dict[str, Any]) -> Table:
    """A block per variant, a row per kind of student; the last column says whether the trade-off holds over the block's
    temperatures."""
    table = Table(title=f"Sweep, {results['unit']}: mean ± 95% t-interval over seeds", title_justify="left")
    table.add_column("variant")
    table.add_column("student")
    for column in (*SHOWN, "training tokens"):
        table.add_column(Text(column), justify="right", no_wrap=True)
    table.add_column("trade-off")
    for one in results["sweep"]:
        name, verdict = variant_label(one["variant"]), one["trade_off"]["verdict"]
        for label, students in by_label(results, one["variant"]).items():
            numbers = [over_seeds(students, COLUMNS[column]) for column in SHOWN]
            table.add_row(name, label, *numbers, _tokens(students), verdict)
            name = verdict = ""
        table.add_section()
    return table


def variant_label(variant: dict[str, int]) -> str:
    """How a variant is named: what in it differs from the study's own student."""
    size = [f"size {variant['hidden_size']}x{variant['layers']}"] if "hidden_size" in variant else []
    amount = [f"|D'| = {variant['num_distill']:,}"] if "num_distill" in variant else []
    return ", ".join(size + amount) or "the study's own"


def _tokens(students: list[dict[str, Any]]) -> str:
    """Tokens trained on, repeats counted; none where the model was kept as it is."""
    counts = [float(student["checkpoint"]["tokens"]) if student["checkpoint"] else 0.0 for student in students]
    found = t_interval(counts)
    return f"{found.mean:,.0f}" + (f" ± {found.half_width:,.0f}" if found.half_width else "")
