"""Drawing beside `generate` and beside a plain loop over `transformers`' forward pass."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.machine import Stage
from benchmarks.models import (
    PROMPT,
    REFERENCE,
    SMALL,
    STOP,
    TOGETHER,
    Case,
    Timed,
    in_transformers,
    reference_config,
    small_folder,
)
from distilscope.distribution import Key
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.loading import model_folder
from distilscope.lm.samplers import decoder_sampler
from distilscope.selectivity import UNCHANGED

HORIZON = 32
WHOLE = 49152
SMALL_ROWS = 1024


def ours(rows: int) -> Timed:
    return _ours(CausalLM.from_folder(model_folder(REFERENCE), dtype=torch.bfloat16), rows)


def small_ours() -> Timed:
    return _ours(CausalLM.from_folder(small_folder()), SMALL_ROWS)


def _ours(model: CausalLM, rows: int) -> Timed:
    def draw() -> int:
        draws = decoder_sampler.draw(
            model.network,
            prompts=((PROMPT,),),
            prompt_of=np.zeros(rows, dtype=np.int64),
            horizon=HORIZON,
            stopping=model.stopping,
            selectivity=UNCHANGED,
            slots=rows,
            key=Key(0),
        )
        return len(draws.ids)

    return draw


def generate(rows: int, top_k: int) -> Timed:
    """`generate`; top_k = 49152 is how the paper asks for the whole vocabulary, 0 how it costs least."""
    model = in_transformers(model_folder(REFERENCE), torch.bfloat16)
    ids = torch.full((rows, 1), PROMPT)

    def draw() -> int:
        torch.manual_seed(0)
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_k=top_k,
            top_p=1.0,
            max_new_tokens=HORIZON,
            pad_token_id=STOP,
            eos_token_id=STOP,
        )[:, 1:]
        return _until_stopped(out)

    return draw


def small_forward() -> Timed:
    """The model's own forward pass with its dynamic cache, a softmax and `multinomial`: what one writes by hand."""
    model = in_transformers(small_folder(), torch.float32)

    @torch.inference_mode()
    def draw() -> int:
        torch.manual_seed(0)
        tokens, cache, drawn = torch.full((SMALL_ROWS, 1), PROMPT), None, []
        for _ in range(HORIZON):
            output = model(input_ids=tokens, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            tokens = output.logits[:, -1].softmax(-1).multinomial(1)
            drawn.append(tokens)
        return _until_stopped(torch.cat(drawn, 1))

    return draw


def _until_stopped(ids: torch.Tensor) -> int:
    """Tokens up to and with each row's first stopping one."""
    stopped = (ids == STOP).int()
    return int(((stopped.cumsum(1) - stopped) == 0).sum())


def _stage(rows: int) -> Stage:
    return Stage(reference_config(), torch.bfloat16, rows, context=HORIZON / 2, draws=HORIZON)


def _small_stage() -> Stage:
    return Stage(SMALL, torch.float32, SMALL_ROWS, context=HORIZON / 2, draws=HORIZON)


CASES: dict[str, Case] = {}
for _rows in (64, 256):
    CASES[f"draw, {_rows} rows: this package{TOGETHER}"] = Case(
        partial(ours, _rows), partial(_stage, _rows), processes=2, as_worker=True
    )
    CASES[f"draw, {_rows} rows: this package"] = Case(partial(ours, _rows), partial(_stage, _rows), as_worker=True)
    CASES |= {
        f"draw, {_rows} rows: generate, {what}": Case(partial(generate, _rows, top_k), partial(_stage, _rows))
        for what, top_k in (("top_k = vocabulary (the paper's call)", WHOLE), ("top_k = 0", 0))
    }
CASES |= {
    "draw from a small model, 1024 rows: this package": Case(small_ours, _small_stage, as_worker=True),
    "draw from a small model, 1024 rows: transformers' forward, dynamic cache": Case(small_forward, _small_stage),
}
