"""The table that `measure` prints, and the texts that each side finds most surprising of the other."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.measurement import MeasurementRecord
from distilscope.evaluation.results import SamplerCheck
from distilscope.report.numbers import plus_minus

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


def measurement_table(found: MeasurementRecord) -> Table:
    """One row per quantity, in nats per sequence and per token of the reference's mean length, and in bits per byte of
    its text."""
    after = f"prompt {found.prompt!r}" if found.prompt is not None else f"{found.prompts} prompts"
    title = f"{found.candidate} (q) against {found.reference} (p): {found.num_samples} draws of each, {after}\n"
    title += f"q: {found.candidate_selectivity}; p: {found.reference_selectivity}"
    # plain text throughout: rich would take brackets for markup
    table = Table(title=Text(title), caption=Text(_caption(found)), title_justify="left", min_width=100)
    table.add_column("quantity")
    units = {"nats per sequence": found if found.unit == "nats per sequence" else None}
    units |= {"nats per token": found.per_token, "bits per byte": found.per_byte}
    shown = {unit: values for unit, values in units.items() if values is not None}
    for unit in shown:
        table.add_column(unit, justify="right")
    for name, title in ROWS.items():
        cells = [_cell(getattr(values, name), unit) for unit, values in shown.items()]
        table.add_row(Text(title), *cells)
    return table


def surprising_texts(found: MeasurementRecord) -> str:
    """The first few draws of each side that the other finds most surprising."""
    lines = []
    for own, other, texts in (
        ("candidate", "reference", found.surprising.candidate_to_reference),
        ("reference", "candidate", found.surprising.reference_to_candidate),
    ):
        lines.append(
            f"Of the {own}'s draws, the {other} finds most surprising (log-probability under the {own} | under the "
            f"{other}, nats):"
        )
        for one in texts[:SHOWN]:
            theirs = "-inf" if one.log_prob_other is None else f"{one.log_prob_other:.1f}"
            lines.append(f"  {one.log_prob_own:.1f} | {theirs}  {one.prompt[-40:]!r} → {one.text[:160]!r}")
    return "\n".join(lines)


def _caption(found: MeasurementRecord) -> str:
    clustered = ", clustered by prompt" if found.prompts > 1 else ""
    length, z, ratio = found.mean_length, found.sampler_check, found.variance_ratio
    lengths = f"lengths {length.candidate.mean:.1f} (q) and {length.reference.mean:.1f} (p) tokens"
    parts = [
        f"mean ± standard error{clustered}; {lengths}",
        f"sampler check z: {_z(z.candidate)} (q), {_z(z.reference)} (p)",
    ]
    if ratio.candidate is not None and ratio.reference is not None:
        parts.append(
            f"plain Monte Carlo would need {ratio.candidate:.1f} (KL(q‖p)) and {ratio.reference:.1f} (KL(p‖q)) times "
            "as many draws"
        )
    if rates := found.canonical_mismatch:
        parts.append(f"{ACROSS}; written otherwise than drawn: {rates.candidate:.1%} (q), {rates.reference:.1%} (p)")
    return "; ".join([*parts, found.dtype])


def _cell(estimate: Estimate, unit: str) -> str:
    if estimate.mean is None or unit == "nats per sequence":
        return str(estimate)
    return plus_minus(estimate.mean, estimate.stderr or None, 4)


def _z(z: SamplerCheck) -> str:
    return z if isinstance(z, str) else f"{z:.2f}"
