"""Tables of the mixture simulation, from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distilscope.errors import UsageError
from distilscope.evaluation.estimate import Estimate, t_interval
from distilscope.evaluation.mixture_results import MixtureResults, Spread
from distilscope.report.numbers import of_interval, true_minus

if TYPE_CHECKING:
    from rich.table import Table

QUANTITIES = {
    "precision": "precision P",
    "recall": "recall R",
    "candidate_entropy": "H(p″)",
    "kl_candidate_reference": "KL(p″‖p*)",
    "kl_reference_candidate": "KL(p*‖p″)",
}


def table(results: MixtureResults) -> Table:
    """P, R, entropy and both divergences by training and beta: mean ± half-width of the 95% t-interval over seeds."""
    from rich.table import Table

    method = results.method
    how = (
        "exact, by quadrature"
        if method.name == "quadrature"
        else f"Monte Carlo, {method.num_eval:,} draws of each side"
    )
    seeds = len({student.seed for student in results.students})
    caption = (
        f"P = E over p″ of log p*, R = E over p* of log p″, {results.unit}, {how}; "
        + (f"mean ± half-width of the 95% t-interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval")
        + f"; H(p*) = {_number(results.ground_truth.entropy.mean)}; difficulty is the teacher's, mean over seeds"
    )
    if results.warnings:
        first = results.warnings[0]
        caption += (
            f"\nEM warned {len(results.warnings)} time(s), first for seed {first.seed}, {first.fit}: {first.message}"
        )
    out = Table(title="Precision and recall of students of Gaussian mixtures", caption=caption)
    out.add_column("student")
    out.add_column("β", justify="right")
    for title in QUANTITIES.values():
        out.add_column(title, justify="right")
    out.add_column("difficulty", justify="right")
    for training, beta in dict.fromkeys((student.training, student.beta) for student in results.students):
        chosen = [student for student in results.students if (student.training, student.beta) == (training, beta)]
        hardness = [
            teacher.difficulty for teacher in results.teacher if training == "distilled" and teacher.beta == beta
        ]
        cells = [_over_seeds([getattr(student, name) for student in chosen]) for name in QUANTITIES]
        out.add_row(training, _beta(beta), *cells, f"{np.mean(hardness):.1f}" if hardness else "–")
    return out


def as_published_table(results: MixtureResults) -> Table:
    """Published | as published here | by definition, for the results of a run with `as_published`."""
    from rich.table import Table

    if results.as_published is None:
        raise UsageError("these results hold no published steps; run `distilscope mog --as-published`")
    out = Table(
        title="The paper's numbers, its steps repeated here, and its definition",
        caption="Nats per draw. The published precision is scored under the modulated teacher p′(x; β = 100) instead "
        "of p*,"
        " and the published recall on the run's own sample. Mean ± half-width of the 95% t-interval over "
        "seeds, and the range.",
    )
    out.add_column("student")
    out.add_column("β", justify="right")
    out.add_column("quantity")
    for title in ("published", "as published here", "by definition"):
        out.add_column(title, justify="right")
    for row in results.as_published:
        numbers = [_spread(row.as_published), _spread(row.by_definition)]
        out.add_row(row.training, _beta(row.beta), row.quantity, _number(row.published), *numbers)
    return out


def _over_seeds(estimates: Sequence[Estimate]) -> str:
    means = [estimate.mean for estimate in estimates if estimate.mean is not None]
    return of_interval(t_interval(means)) if len(means) == len(estimates) else "infinite"


def _spread(found: Spread) -> str:
    return f"{of_interval(found)}\n({_number(found.lowest)} … {_number(found.highest)})"


def _number(value: float | None) -> str:
    return "–" if value is None else true_minus(f"{value:.2f}")


def _beta(beta: float | str | None) -> str:
    return "–" if beta is None else "∞" if isinstance(beta, str) else f"{beta:g}"
