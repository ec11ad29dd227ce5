"""Tables of the mixture simulation, from its results alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from distilscope.errors import UsageError
from distilscope.evaluation.estimate import Interval, t_interval

if TYPE_CHECKING:
    from rich.table import Table

QUANTITIES = {
    "precision": "precision P",
    "recall": "recall R",
    "candidate_entropy": "H(p″)",
    "kl_candidate_reference": "KL(p″‖p*)",
    "kl_reference_candidate": "KL(p*‖p″)",
}


def table(results: dict[str, Any]) -> Table:
    """P, R, entropy and both divergences by training and beta: mean ± half-width of the 95% t-interval over seeds."""
    from rich.table import Table

    truth = results["ground_truth"]
    method = results["method"]
    how = (
        "exact, by quadrature"
        if method["name"] == "quadrature"
        else f"Monte Carlo, {method['num_eval']:,} draws of each side"
    )
    seeds = len({record["seed"] for record in results["students"]})
    caption = (
        f"P = E over p″ of log p*, R = E over p* of log p″, {results['unit']}, {how}; "
        + (f"mean ± half-width of the 95% t-interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval")
        + f"; H(p*) = {_number(truth['entropy']['mean'])}; difficulty is the teacher's, mean over seeds"
    )
    if warnings := results["warnings"]:
        caption += (
            f"\nEM warned {len(warnings)} time(s), first for seed {warnings[0]['seed']}, {warnings[0]['fit']}: "
            f"{warnings[0]['message']}"
        )
    out = Table(title="Precision and recall of students of Gaussian mixtures", caption=caption)
    out.add_column("student")
    out.add_column("β", justify="right")
    for title in QUANTITIES.values():
        out.add_column(title, justify="right")
    out.add_column("difficulty", justify="right")
    for training, beta in _settings(results["students"]):
        chosen = [record for record in results["students"] if (record["training"], record["beta"]) == (training, beta)]
        hardness = [
            record["difficulty"] for record in results["teacher"] if training == "distilled" and record["beta"] == beta
        ]
        cells = [_over_seeds(record[name] for record in chosen) for name in QUANTITIES]
        out.add_row(training, _beta(beta), *cells, f"{np.mean(hardness):.1f}" if hardness else "–")
    return out


def as_published_table(results: dict[str, Any]) -> Table:
    """Published | as published here | by definition, for the results of a run with `as_published`."""
    from rich.table import Table

    if "as_published" not in results:
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
    for row in results["as_published"]:
        numbers = [_spread(row[name]) for name in ("as_published", "by_definition")]
        out.add_row(row["training"], _beta(row["beta"]), row["quantity"], _number(row["published"]), *numbers)
    return out


def _settings(students: list[dict[str, Any]]) -> list[tuple[str, float | str | None]]:
    """Each (training, beta) once, in the order of the results."""
    return list(dict.fromkeys((record["training"], record["beta"]) for record in students))


def _over_seeds(estimates: Iterable[dict[str, Any]]) -> str:
    means = [estimate["mean"] for estimate in estimates]
    return "infinite" if None in means else _minus(str(t_interval(means)))


def _spread(record: dict[str, Any]) -> str:
    interval = Interval.from_json(record)
    return f"{_minus(str(interval))}\n({_number(record['lowest'])} … {_number(record['highest'])})"


def _number(value: float | None) -> str:
    return "–" if value is None else _minus(f"{value:.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _beta(beta: float | str | None) -> str:
    return "–" if beta is None else "∞" if beta == "inf" else f"{beta:g}"
