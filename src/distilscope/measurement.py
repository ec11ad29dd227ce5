"""Precision and recall of one causal language model against another, on one prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distilscope.comparison import PrecisionRecall, Scored, compare
from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.estimate import Estimate
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.hardware import require_dtype, resolved_dtype
from distilscope.lm.reference import load, model_folder
from distilscope.lm.scoring import OwnScores, TokenScores
from distilscope.lm.sequences import Sequences
from distilscope.lm.vocabulary import require_same_tokens
from distilscope.selectivity import UNCHANGED, Selectivity


@dataclass(frozen=True)
class Measurement:
    """Nats per sequence, over `num_samples` draws of each side that have passed both gates."""

    settings: dict[str, Any]
    estimates: PrecisionRecall
    mean_length: dict[str, Estimate]
    """Tokens, a stopping token counted."""
    sampler_check: dict[str, float | str]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "unit": "nats per sequence",
            **self.settings,
            **self.estimates.as_json(),
            "mean_length": {side: estimate.as_json() for side, estimate in self.mean_length.items()},
            "sampler_check": self.sampler_check,
        }

    @property
    def warnings(self) -> list[str]:
        """Estimates that are infinite, with the draws that make them so."""
        found = {"reference": self.estimates.precision, "candidate": self.estimates.recall}
        return [
            f"{estimate.infinite} of {estimate.n} draws have probability zero under the {side} "
            f"(draws {', '.join(map(str, estimate.infinite_at))}"
            + ("" if estimate.infinite <= len(estimate.infinite_at) else ", ...")
            + "); its score is -inf, so the mean is infinite and not shown"
            for side, estimate in found.items()
            if estimate.infinite
        ]


def measure(
    *,
    reference: str,
    candidate: str,
    prompt: str = "The",
    num_samples: int = 256,
    max_new_tokens: int = 64,
    reference_selectivity: Selectivity = UNCHANGED,
    candidate_selectivity: Selectivity = UNCHANGED,
    seed: int = 0,
    dtype: str = "auto",
) -> Measurement:
    """Measures `candidate` against `reference`, each named as `load` takes it, over the sequences that follow `prompt`.

    The stopping ids are the reference's, for both. Raises UsageError where the two do not share a tokenizer and vocabulary,
    GateError where a gate does not pass.
    """
    if num_samples < 2:
        raise UsageError(f"num-samples is {num_samples}, but a standard error needs at least 2 draws of each side")
    if seed < 0:
        raise UsageError(f"the seed is {seed}, but must be 0 or more")
    require_dtype(dtype)
    if dtype == "auto" and not reference_selectivity == candidate_selectivity == UNCHANGED:
        dtype = "float32"  # a sharper choice magnifies rounding, and a truncated one can lose a token to it
    dtype = resolved_dtype(dtype)
    p = load(reference, dtype=dtype)
    q = p if candidate == reference else load(candidate, dtype=dtype)
    require_same_tokens(model_folder(reference), model_folder(candidate))
    ids = p.encode(prompt)
    q = CausalLM(q.network, p.stopping, q.tokenizer)
    sides = {
        "reference": p.select(reference_selectivity).after(ids, horizon=max_new_tokens),
        "candidate": q.select(candidate_selectivity).after(ids, horizon=max_new_tokens),
    }
    draws = {name: side.sample(num_samples, Key(seed, ("measure", name))) for name, side in sides.items()}
    scores = {
        name: side.score(draws[name], other) for (name, side), other in zip(sides.items(), reversed(list(sides.values())), strict=True)
    }
    checks = {name: own.check(draws[name], dtype=dtype, whose=f"the {name}") for name, (own, _) in scores.items()}
    return Measurement(
        settings={
            "reference": reference,
            "candidate": candidate,
            "prompt": prompt,
            "num_samples": num_samples,
            "max_new_tokens": max_new_tokens,
            "seed": seed,
            "dtype": dtype,
            "reference_selectivity": str(reference_selectivity),
            "candidate_selectivity": str(candidate_selectivity),
        },
        estimates=compare(
            candidate=_scored(draws["candidate"], scores["candidate"][0], scores["candidate"][1][0]),
            reference=_scored(draws["reference"], scores["reference"][0], scores["reference"][1][0]),
        ),
        mean_length={name: Estimate.of(draws[name].lengths) for name in sides},
        sampler_check=checks,
    )


def _scored(draws: Sequences, own: OwnScores, other: TokenScores) -> Scored:
    own_total, own_deviation = own.totals(draws)
    other_total, other_deviation = other.totals(draws)
    return Scored(own_total, other_total, own_deviation, other_deviation)
