"""Precision and recall of one causal language model against another, after one prompt or many."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.evaluation.documents import document_of
from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.gates import require_whole
from distilscope.evaluation.measurement import (
    Lengths,
    MeasurementRecord,
    Quantities,
    Surprising,
    SurprisingText,
)
from distilscope.evaluation.precision_recall import PrecisionRecall, compare
from distilscope.evaluation.results import Sides
from distilscope.lm.causal_lm import PromptedLM
from distilscope.lm.cross_tokenizer import Reader, stop_of
from distilscope.lm.data.detokenize import texts
from distilscope.lm.data.tokenizer import require_same_tokens
from distilscope.lm.device import resolved_dtype
from distilscope.lm.dtypes import require_dtype
from distilscope.lm.loading import load, model_folder
from distilscope.lm.network import over_threads
from distilscope.lm.samplers import decoder_sampler
from distilscope.lm.scoring import OwnScores, TokenScores
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import UNCHANGED, Selectivity
from distilscope.studies.gated_scores import Tally
from distilscope.studies.measure.draws_file import (
    SIDES,
    TILE,
    About,
    DrawsFile,
    DrawsWriter,
    draws_path,
    open_draws_writer,
)
from distilscope.studies.measure.surprising import Surprises

AT_ONCE = 4
"""Most tiles that are made side by side: while it is drawn, each holds keys and values of its own."""

QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Measurement:
    """Two models compared over draws of each that have passed both gates. `estimates` are in `unit`."""

    unit: str
    settings: dict[str, Any]
    estimates: PrecisionRecall
    per_token: PrecisionRecall | None
    """Nats per token: divided by the constant E_p[L]. None across tokenizers, whose tokens differ."""
    per_byte: PrecisionRecall | None
    """Bits per byte: divided by the constant mean number of bytes in a text of the reference. None where those are
    empty."""
    lengths: dict[str, dict[str, Any]]
    mean_length: dict[str, Estimate]
    """Tokens, a stopping token counted."""
    sampler_check: dict[str, float | str]
    variance_ratio: dict[str, float | None]
    """By side: how many times as many draws plain Monte Carlo would need for the same error of that side's divergence.
    """
    surprising: dict[str, list[dict[str, Any]]]
    canonical_mismatch: dict[str, float] | None
    """Across tokenizers: share of a side's own draws that its tokenizer would write otherwise, encode(decode(ids)) !=
    ids."""

    def record(self) -> MeasurementRecord:
        return MeasurementRecord(
            unit=self.unit,
            **self.settings,
            **self.estimates.quantities(),
            mean_length=Sides(**self.mean_length),
            sampler_check=Sides(**self.sampler_check),
            per_token=Quantities(**self.per_token.quantities()) if self.per_token else None,
            per_byte=Quantities(**self.per_byte.quantities()) if self.per_byte else None,
            lengths=Sides(**{side: Lengths(**lengths) for side, lengths in self.lengths.items()}),
            variance_ratio=Sides(**self.variance_ratio),
            canonical_mismatch=Sides(**self.canonical_mismatch) if self.canonical_mismatch else None,
            surprising=Surprising(
                **{name: tuple(SurprisingText(**one) for one in ones) for name, ones in self.surprising.items()}
            ),
        )

    def as_json(self) -> dict[str, Any]:
        return document_of(self.record())

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
    prompt: str | None = None,
    prompts: Sequence[str] | None = None,
    num_samples: int | None = None,
    max_new_tokens: int | None = None,
    reference_selectivity: Selectivity = UNCHANGED,
    candidate_selectivity: Selectivity = UNCHANGED,
    seed: int | None = None,
    dtype: str = "auto",
    unit: str = "nat",
    keep_draws: str | Path | None = None,
    draws: str | Path | None = None,
) -> Measurement:
    """Measures `candidate` against `reference`, each named as `load` takes it, over the sequences that follow one
    prompt or several.

    `num_samples` draws (256) of each side, of at most `max_new_tokens` (64), follow the `prompts` in turn, or the one
    `prompt` ("The"); with several prompts, draws after one count as dependent, and prompts count alike where their
    number divides `num_samples`. The stopping ids are the reference's, for both (each its own where tokenizers differ).
    `keep_draws` names a Parquet file, or a folder for `draws.parquet`, to write the draws to; `draws` one to take them
    from, with their prompts, number, horizon and seed, instead of drawing; they pass the same gates. With unit "byte"
    the models may have different tokenizers (see `lm.across_tokenizers` for what is then exact), and estimates are in
    bits per byte. Raises UsageError for settings that cannot be measured, GateError where a gate does not pass.
    """
    own = {
        "prompt": prompt,
        "prompts": prompts,
        "num_samples": num_samples,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    given = _kept(Path(draws), own) if draws is not None else None
    if given:
        texts_before, horizon = tuple(given.about.prompts), given.about.horizon
        num_samples, seed = given.about.num_samples, given.about.seed
    else:
        texts_before, horizon = _prompts(prompt, prompts), 64 if max_new_tokens is None else max_new_tokens
        num_samples, seed = 256 if num_samples is None else num_samples, seed or 0
    _require_sizes(num_samples, texts_before, seed)
    if unit not in ("nat", "byte"):
        raise UsageError(
            f"the unit is {unit!r}, but must be nat or byte; byte compares models with different tokenizers"
        )
    dtype = _settled(dtype, reference_selectivity, candidate_selectivity)
    across = _pair(reference, candidate, unit)
    p = load(reference, dtype=dtype)
    q = p if candidate == reference else load(candidate, dtype=dtype)
    if not across:
        q = replace(q, stopping=p.stopping, tokenizer=p.tokenizer)  # a student's folder may hold no tokenizer
    sides = {
        name: model.select(by).after(*map(model.encode, texts_before), horizon=horizon)
        for name, model, by in (("reference", p, reference_selectivity), ("candidate", q, candidate_selectivity))
    }
    if given:
        given.require_made_by(sides)
    settings = {
        "reference": reference,
        "candidate": candidate,
        "prompt": texts_before[0] if len(texts_before) == 1 else None,
        "prompts": len(texts_before),
        "num_samples": num_samples,
        "max_new_tokens": horizon,
        "seed": seed,
        "dtype": dtype,
        "reference_selectivity": str(reference_selectivity),
        "candidate_selectivity": str(candidate_selectivity),
    }
    about = About.of(sides, texts_before, num_samples=num_samples, seed=seed)
    with ExitStack() as stack:
        writer = stack.enter_context(open_draws_writer(draws_path(Path(keep_draws)), about)) if keep_draws else None
        found = {name: _Side(name, sides, texts_before, dtype=dtype, across=across, given=given) for name in SIDES}
        most = min(AT_ONCE, len(SIDES) * math.ceil(num_samples / TILE))
        for tile in over_threads((p.network, q.network), operator.call, _tiles(found, num_samples, seed, given), most):
            found[tile.side].add(tile, writer)
        return _result(found, settings, unit=unit, across=across)  # inside, so that draws that do not pass are not kept


def _kept(draws: Path, own: dict[str, Any]) -> DrawsFile:
    if taken := next((name.replace("_", "-") for name, value in own.items() if value is not None), None):
        raise UsageError(
            f"{taken} is given beside draws, but draws that were kept have their own; leave one of them out"
        )
    return DrawsFile(draws_path(draws))


def _prompts(prompt: str | None, prompts: Sequence[str] | None) -> tuple[str, ...]:
    if prompt is not None and prompts is not None:
        raise UsageError("both prompt and prompts say what the draws follow; give one of them")
    if isinstance(prompts, str) or (prompts is not None and not prompts):
        raise UsageError(
            f"prompts is {prompts!r}, but must be a list of at least one text; give a single text as prompt"
        )
    return ("The" if prompt is None else prompt,) if prompts is None else tuple(prompts)


def _require_sizes(num_samples: int, prompts: tuple[str, ...], seed: int) -> None:
    if len(set(prompts)) < len(prompts):
        twice = next(text for text in prompts if prompts.count(text) > 1)
        raise UsageError(f"the prompt {twice!r} is given twice; give each once, since draws follow all alike")
    if num_samples < 2:
        raise UsageError(f"num-samples is {num_samples}, but a standard error needs at least 2 draws of each side")
    if num_samples < len(prompts):
        raise UsageError(
            f"num-samples is {num_samples}, but {len(prompts)} prompts need at least {len(prompts)}, a draw of each "
            "side after each"
        )
    if seed < 0:
        raise UsageError(f"the seed is {seed}, but must be 0 or more")


def _settled(dtype: str, *selectivities: Selectivity) -> str:
    require_dtype(dtype)
    if dtype == "auto" and any(by != UNCHANGED for by in selectivities):
        return "float32"  # a sharper choice magnifies rounding, and a truncated one can lose a token to it
    return resolved_dtype(dtype)


def _pair(reference: str, candidate: str, unit: str) -> bool:
    """Whether the two have different tokenizers; refused unless bytes are counted."""
    try:
        remedy = "give models with one tokenizer, or compare their texts with --unit byte"
        require_same_tokens(model_folder(reference), model_folder(candidate), remedy=remedy)
    except UsageError:
        if unit != "byte":
            raise
        return True
    return False


def _tiles(
    sides: Mapping[str, _Side], number: int, seed: int, given: DrawsFile | None
) -> Iterator[Callable[[], _Tile]]:
    """What makes each tile of the sides' draws and scores it."""
    for name, side in sides.items():
        if given is not None:
            yield from (partial(side.scored, draws) for draws in given.tiles(name))
            continue
        for tile, first in enumerate(range(0, number, TILE)):
            prompt_of = decoder_sampler.in_turn(first, min(TILE, number - first), len(side.lm.prompts))
            yield partial(side.drawn, prompt_of, Key(seed, ("measure", name, tile)))


@dataclass(frozen=True)
class _Tile:
    """Some of a side's draws with their scores and texts."""

    side: str
    draws: Sequences
    own: OwnScores
    other: TokenScores | Float[np.ndarray, " n"]
    written: list[str]
    mismatches: int


class _Side:
    """One side's draws on their way through scoring, gates and what is kept of them."""

    def __init__(
        self,
        name: str,
        sides: dict[str, PromptedLM],
        prompts: tuple[str, ...],
        *,
        dtype: str,
        across: bool,
        given: DrawsFile | None,
    ) -> None:
        self.name, self.lm = name, sides[name]
        self.other = next(lm for side, lm in sides.items() if side != name)
        self.whose = f"the {name}" + (
            f" in {given.path} (made with {given.about.selectivities[name]})" if given else ""
        )
        self.tally = Tally(dtype=dtype, whose=self.whose, clustered=len(prompts) > 1)
        self.surprises = Surprises(prompts)
        self.own_reader, self.reader = (
            (Reader.of(lm, prompts) for lm in (self.lm, self.other)) if across else (None, None)
        )
        self.bytes = self.mismatches = 0

    def drawn(self, prompt_of: Int[np.ndarray, " n"], key: Key) -> _Tile:
        return self.scored(self.lm.sample_after(prompt_of, key))

    def scored(self, draws: Sequences) -> _Tile:
        """Notes nothing: tiles are made side by side."""
        tokenizer = self.lm.model.tokenizer
        assert tokenizer is not None  # it has read the prompts
        ends = np.isin(draws.ids[draws.offsets[1:] - 1], sorted(self.lm.model.stopping))
        require_whole(self.lm.possible(draws) & (draws.ended == ends), whose=self.whose)
        written = texts(tokenizer, draws)
        if self.reader is None or self.own_reader is None:
            own, (other,) = self.lm.score(draws, self.other)
            return _Tile(self.name, draws, own, other, written, mismatches=0)
        own, _ = self.lm.score(draws)
        other = self.reader.log_prob(draws, written, stop=stop_of(self.lm, self.other))
        return _Tile(self.name, draws, own, other, written, int((~self.own_reader.canonical(draws, written)).sum()))

    def add(self, tile: _Tile, writer: DrawsWriter | None) -> None:
        mine, total = self.tally.add(tile.draws, tile.own, tile.other)
        self.surprises.offer(tile.draws, tile.written, mine, total)
        self.bytes += sum(len(text.encode()) for text in tile.written)
        self.mismatches += tile.mismatches
        if writer is not None:
            by_side: dict[str, Float[np.ndarray, " n"]] = {side: mine if side == self.name else total for side in SIDES}
            writer.write(self.name, tile.draws, by_side)


def _result(found: dict[str, _Side], settings: dict[str, Any], *, unit: str, across: bool) -> Measurement:
    z = {name: side.tally.z() for name, side in found.items()}
    scored = {name: side.tally.scored() for name, side in found.items()}
    nats = compare(candidate=scored["candidate"], reference=scored["reference"], one_space=not across)
    lengths = {name: side.tally.lengths for name, side in found.items()}
    mean_length = {name: Estimate.of(values) for name, values in lengths.items()}
    text = found["reference"].bytes / len(lengths["reference"])
    per_byte = nats.per(text * math.log(2)) if text else None
    if unit == "byte" and per_byte is None:
        raise UsageError(
            "the reference's draws hold no text, so nothing can be counted per byte; give a larger --max-new-tokens"
        )
    tokens = mean_length["reference"].mean
    assert tokens is not None
    return Measurement(
        unit="nats per sequence" if unit == "nat" else "bits per byte",
        settings=settings,
        estimates=nats if unit == "nat" or per_byte is None else per_byte,
        per_token=None if across else nats.per(tokens),
        per_byte=per_byte,
        lengths={
            name: {
                "quantiles": {str(q): float(np.percentile(values, q)) for q in QUANTILES},
                "ended": float(found[name].tally.ended.mean()),
            }
            for name, values in lengths.items()
        },
        mean_length=mean_length,
        sampler_check=z,
        variance_ratio={name: side.variance_ratio for name, side in scored.items()},
        surprising={
            "candidate_to_reference": found["candidate"].surprises.as_json(),
            "reference_to_candidate": found["reference"].surprises.as_json(),
        },
        canonical_mismatch={name: side.mismatches / len(lengths[name]) for name, side in found.items()}
        if across
        else None,
    )
