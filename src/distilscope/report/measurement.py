"""The table that `measure` prints."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from distilscope.estimate import Estimate

ROWS = {
    "precision": "P = E_q[log p]",
    "recall": "R = E_p[log q]",
    "candidate_entropy": "H(q), candidate",
    "reference_entropy": "H(p), reference",
    "kl_candidate_reference": "KL(q‖p)",
    "kl_reference_candidate": "KL(p‖q)",
}


def measurement_table(found: dict[str, Any]) -> Table:
    """One row per quantity: nats per sequence, and per token of the reference's mean length (a constant)."""
    title = f"{found['candidate']} (q) against {found['reference']} (p): {found['num_samples']} draws of each, prompt {found['prompt']!r}\n"
    title += f"q: {found['candidate_selectivity']}; p: {found['reference_selectivity']}"
    caption = (
        f"mean ± standard error; lengths {_length(found, 'candidate')} (q) and {_length(found, 'reference')} (p) tokens; "
        f"sampler check z: {_z(found, 'candidate')} (q), {_z(found, 'reference')} (p); {found['dtype']}"
    )
    # plain text throughout: rich would take brackets for markup
    table = Table(title=Text(title), caption=Text(caption), title_justify="left")
    table.add_column("quantity")
    table.add_column(found["unit"], justify="right")
    table.add_column("nats per token", justify="right")
    tokens = found["mean_length"]["reference"]["mean"]
    for name, title in ROWS.items():
        estimate = Estimate.from_json(found[name])
        table.add_row(Text(title), str(estimate), "–" if estimate.mean is None else f"{estimate.mean / tokens:.3f}")
    return table


def _length(found: dict[str, Any], side: str) -> str:
    return f"{found['mean_length'][side]['mean']:.1f}"


def _z(found: dict[str, Any], side: str) -> str:
    z = found["sampler_check"][side]
    return z if isinstance(z, str) else f"{z:.2f}"
