"""Scoring beside full logits, and `measure` beside the drawing and scoring that it cannot do without."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.machine import Stage
from benchmarks.models import PROMPT, REFERENCE, Case, Timed, in_transformers, random_sequences, reference_config
from distilscope.distribution import Key
from distilscope.lm import scoring
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.loading import model_folder
from distilscope.lm.network import over_threads
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import UNCHANGED
from distilscope.studies.measure.draws_file import TILE

LENGTHS = {
    "16 x 64 tokens": np.full(16, 64),
    "ragged 8...512": np.geomspace(8, 512, 32).astype(int)[np.random.default_rng(0).permutation(32)],
}
MEASURED, MEASURED_TOKENS = 512, 64


def ours(kind: str) -> Timed:
    model = CausalLM.from_folder(model_folder(REFERENCE), dtype=torch.bfloat16)
    sequences = _sequences(kind)

    def timed() -> int:
        scoring.log_prob((model.network, UNCHANGED), sequences)
        return len(sequences.ids)

    return timed


def full_logits(kind: str) -> Timed:
    """Rows padded to the longest in batches of 16, logits of every position and token, log-softmax in fp32."""
    model = in_transformers(model_folder(REFERENCE), torch.bfloat16)
    rows = [torch.from_numpy(np.concatenate([[PROMPT], row]).astype(np.int64)) for row in _sequences(kind)]

    @torch.inference_mode()
    def timed() -> int:
        for start in range(0, len(rows), 16):
            batch = rows[start : start + 16]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in batch])[:, None]
            logits = model(input_ids=ids, attention_mask=mask.long()).logits
            logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])
        return sum(len(row) - 1 for row in rows)

    return timed


def measure() -> Timed:
    """The model against itself, loading included: draws, scores, gates, estimates, texts."""
    from distilscope.studies.measure.measure import measure

    def timed() -> int:
        found = measure(
            reference=REFERENCE,
            candidate=REFERENCE,
            num_samples=MEASURED,
            max_new_tokens=MEASURED_TOKENS,
            dtype="bfloat16",
        )
        return int(MEASURED * sum(one.mean or 0.0 for one in found.mean_length.values()))

    return timed


def alone() -> Timed:
    """The same draws of two sides, and each scored, with nothing around it."""
    model = CausalLM.from_folder(model_folder(REFERENCE), dtype=torch.bfloat16)
    tiles = range(0, 2 * MEASURED, TILE)

    def tile(first: int) -> int:
        draws = model.after((PROMPT,), horizon=MEASURED_TOKENS).sample(TILE, Key(first))
        scoring.log_prob((model.network, UNCHANGED), draws)
        return len(draws.ids)

    return lambda: sum(over_threads([model.network], tile, tiles, len(tiles)))


def _sequences(kind: str) -> Sequences:
    return random_sequences(LENGTHS[kind], reference_config().vocab_size)


def _stage(kind: str) -> Stage:
    return Stage(reference_config(), torch.bfloat16, int(LENGTHS[kind].sum()))


CASES: dict[str, Case] = {}
for _kind in LENGTHS:
    CASES |= {
        f"score, {_kind}: this package": Case(partial(ours, _kind), partial(_stage, _kind), as_worker=True),
        f"score, {_kind}: full logits": Case(partial(full_logits, _kind), partial(_stage, _kind)),
    }
CASES |= {
    f"measure, {MEASURED} x {MEASURED_TOKENS} tokens: distilscope measure": Case(measure, warms_up=False),
    f"measure, {MEASURED} x {MEASURED_TOKENS} tokens: drawing and scoring alone": Case(alone, warms_up=False),
}
