"""The step that draws a tile of sequences from a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distilscope.lm.samplers import decoder_sampler
from distilscope.selectivity import from_parameters
from distilscope.studies.artifacts import _model, key_of, read_prompts


def draw_tile(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """The draws `first`, `first` + 1, ...; over all tiles they follow the prompts in turn."""
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
