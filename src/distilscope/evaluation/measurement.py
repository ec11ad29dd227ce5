"""The records of what `distilscope measure` prints: one candidate against one reference."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from distilscope.evaluation.documents import Number, Whole
from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.results import SamplerCheck, Sides


class Quantities(Struct, frozen=True, kw_only=True):
    """Precision, recall, entropies and divergences, in one unit."""

    precision: Estimate
    recall: Estimate
    candidate_entropy: Estimate
    reference_entropy: Estimate
    kl_candidate_reference: Estimate
    kl_reference_candidate: Estimate
    delta_precision: Estimate
    delta_recall: Estimate


class Settings(Struct, frozen=True, kw_only=True):
    """What was measured, and how."""

    schema_version: Literal[1] = 1
    unit: str
    reference: str
    candidate: str
    prompt: str | None
    """None where there are several."""
    prompts: Whole
    num_samples: Whole
    max_new_tokens: Whole
    seed: Whole
    dtype: str
    reference_selectivity: str
    candidate_selectivity: str


class Lengths(Struct, frozen=True, kw_only=True):
    """Of one side's draws, in tokens."""

    quantiles: dict[str, Number]
    """By percentage."""
    ended: Number


class SurprisingText(Struct, frozen=True, kw_only=True):
    text: str
    prompt: str
    length: Whole
    ended: bool
    log_prob_own: Number
    log_prob_other: Number | None
    """None where the other side cannot make the draw at all."""


class Surprising(Struct, frozen=True, kw_only=True):
    """Each side's draws that the other finds most surprising, the most surprising first."""

    candidate_to_reference: tuple[SurprisingText, ...]
    reference_to_candidate: tuple[SurprisingText, ...]


class MeasurementRecord(Settings, frozen=True, kw_only=True):
    """All that `measure --json` prints."""

    precision: Estimate
    recall: Estimate
    candidate_entropy: Estimate
    reference_entropy: Estimate
    kl_candidate_reference: Estimate
    kl_reference_candidate: Estimate
    delta_precision: Estimate
    delta_recall: Estimate
    mean_length: Sides[Estimate]
    sampler_check: Sides[SamplerCheck]
    per_token: Quantities | None
    """Nats per token. None across tokenizers, whose tokens differ."""
    per_byte: Quantities | None
    """Bits per byte. None where the reference's texts are empty."""
    lengths: Sides[Lengths] = field(name="length")
    variance_ratio: Sides[Number | None]
    """How many times as many draws plain Monte Carlo would need for the same error of that side's divergence."""
    canonical_mismatch: Sides[Number] | None
    """Across tokenizers: share of a side's draws that its tokenizer would write otherwise."""
    surprising: Surprising
