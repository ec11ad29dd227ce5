"""The table that `measure` prints, and the texts that each side finds most surprising of the other."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.estimate import Estimate

ROWS = {
    "precision": "P = E_q[log p]",
    "recall": "R = E_p[log q]",
    "candidate_entropy": "H(q), candidate",
    "reference_entropy": "H(p), reference",
    "kl_candidate_reference": "KL(q‖p)",
    "kl_reference_candidate": "KL(p‖q)",
    "delta_precision": "ΔP = P + H(p)",
    "delta_recall": "ΔR = R + H(p)",
}

SHOWN = 3
"""Surprising texts of each side on the terminal; --json has them all."""

ACROSS = (
    "different tokenizers: each side's own log-probability is exact, the other's is that of the text "
    "as its own tokenizer writes it, a lower bound; a draw cut at the horizon is read as the beginning of a text, "
    "so a divergence near 0 can come out below it"
)


def measurement_table(found: dict[str, Any]) -> Table:
    """One row per quantity, in nats per sequence and per token of the reference's mean length, and in bits per byte of
    its text."""
    after = f"prompt {found['prompt']!r}" if found["prompt"] is not None else f"{found['prompts']} prompts"
    title = (
        f"{found['candidate']} (q) against {found['reference']} (p): {found['num_samples']} draws of each, {after}\n"
    )
    title += f"q: {found['candidate_selectivity']}; p: {found['reference_selectivity']}"
    # plain text throughout: rich would take brackets for markup
    table = Table(title=Text(title), caption=Text(_caption(found)), title_justify="left", min_width=100)
    table.add_column("quantity")
    units = {"nats per sequence": found if found["unit"] == "nats per sequence" else None}
    units |= {"nats per token": found["per_token"], "bits per byte": found["per_byte"]}
    shown = {unit: values for unit, values in units.items() if values is not None}
    for unit in shown:
        table.add_column(unit, justify="right")
    for name, title in ROWS.items():
        cells = [_cell(Estimate.from_json(values[name]), unit) for unit, values in shown.items()]
        table.add_row(Text(title), *cells)
    return table


def surprising_texts(found: dict[str, Any]) -> str:
    """The first few draws of each side that the other finds most surprising."""
    lines = []
    for direction, records in found["surprising"].items():
        own, _, other = direction.partition("_to_")
        lines.append(
            f"Of the {own}'s draws, the {other} finds most surprising (log-probability under the {own} | under the "
            f"{other}, nats):"
        )
        for record in records[:SHOWN]:
            theirs = "-inf" if record["log_prob_other"] is None else f"{record['log_prob_other']:.1f}"
            lines.append(
                f"  {record['log_prob_own']:.1f} | {theirs}  {record['prompt'][-40:]!r} → {record['text'][:160]!r}"
            )
    return "\n".join(lines)


def _caption(found: dict[str, Any]) -> str:
    clustered = ", clustered by prompt" if found["prompts"] > 1 else ""
    parts = [
        (
            f"mean ± standard error{clustered}; lengths {_length(found, 'candidate')} (q) and "
            f"{_length(found, 'reference')} (p) tokens"
        ),
        f"sampler check z: {_z(found, 'candidate')} (q), {_z(found, 'reference')} (p)",
    ]
    ratios = [found["variance_ratio"][side] for side in ("candidate", "reference")]
    if None not in ratios:
        parts.append(
            f"plain Monte Carlo would need {ratios[0]:.1f} (KL(q‖p)) and {ratios[1]:.1f} (KL(p‖q)) times as many draws"
        )
    if found["canonical_mismatch"]:
        rates = found["canonical_mismatch"]
        parts.append(
            f"{ACROSS}; written otherwise than drawn: {rates['candidate']:.1%} (q), {rates['reference']:.1%} (p)"
        )
    return "; ".join([*parts, found["dtype"]])


def _cell(estimate: Estimate, unit: str) -> str:
    if estimate.mean is None or unit == "nats per sequence":
        return str(estimate)
    return f"{estimate.mean:.4f}" + (f" ± {estimate.stderr:.4f}" if estimate.stderr else "")


def _length(found: dict[str, Any], side: str) -> str:
    return f"{found['mean_length'][side]['mean']:.1f}"


def _z(found: dict[str, Any], side: str) -> str:
    z = found["sampler_check"][side]
    return z if isinstance(z, str) else f"{z:.2f}"
