"""The step that draws a tile of sequences from a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.pipeline.step import Step
from distilscope.selectivity import from_parameters
from distilscope.studies.costs import BYTES, Cost
from distilscope.studies.steps.registry import StepKind, register


def draw_tile(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """The draws `first`, `first` + 1, ...; over all tiles they follow the prompts in turn."""
    from distilscope.lm.samplers import decoder_sampler
    from distilscope.studies.artifacts import _model, key_of, read_prompts

    model, first = _model(inputs["model"], config["dtype"]), config["first"]
    prompts, stopping = read_prompts(inputs["prompts"])
    draws = (
        replace(model, stopping=stopping, selectivity=from_parameters(config["selectivity"]))
        .after(*prompts, horizon=config["horizon"])
        .sample_after(
            decoder_sampler.in_turn(first, config["draws"], len(prompts)),
            key_of(config["key"]).child("tile", config["tile"]),
            slots=config["slots"],
        )
    )
    draws.save(output / "sequences.safetensors")
    return {"sequences": len(draws), "tokens": len(draws.ids), "ended": int(draws.ended.sum())}


def cost(architecture: LlamaConfig, dtype: str, *, draws: int, horizon: int, context: int, slots: int) -> Cost:
    """Of a tile, drawn after prompts of at most `context` tokens. First tokens come of reading the prompts, which is
    left out.

    Slots whose sequences begin alike are computed as one, which is not counted: a twentieth of them after one prompt of
    one token.
    """
    tokens, used = draws * horizon, min(slots, draws)
    cached = (
        2
        * architecture.num_layers
        * architecture.num_kv_heads
        * architecture.head_dim
        * BYTES[dtype]
        * (context + horizon)
    )
    choosing = 4 * 4 * architecture.vocab_size  # logits and what a choice makes of them, in float32
    return Cost(
        (tokens - draws) * architecture.flops_per_token,
        tokens,
        disk=tokens * (2 + 4) + draws * 9,  # an id and its log-probability; a length, an end and a prompt
        memory=architecture.parameters * BYTES[dtype] + used * (cached + choosing),
    )


def _network(step: Step) -> str:
    """Draws from one network take the same time, whatever they are for."""
    return f"draw in {step.config['dtype']} at {step.cost / step.tokens:.6g} FLOPs a token"


DRAWS = register(
    StepKind(
        "draws",
        version=9,
        function="distilscope.studies.steps.draw:draw_tile",
        cost=cost,
        utilisation=0.1,  # assumed: it reads all weights, and each slot's keys and values, for one token per slot
        memory_setting="slots",
        rate_group=_network,
    )
)
