"""What each kind of step does, in whichever process does it: make p*, draw a tile, train a model, score draws.

Each function takes (config, inputs by name, output folder, scratch folder) and returns counts. It reads nothing else and
draws no random number but from the key in its configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from distilscope.distribution import Key
from distilscope.ground_truth import Size
from distilscope.lm import sampler
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.llama import Llama
from distilscope.lm.model_folder import stopping_ids, write_model
from distilscope.lm.scoring import TokenScores, score
from distilscope.lm.sequences import Sequences
from distilscope.lm.training import Training, train
from distilscope.selectivity import from_knobs

KINDS = {
    "ground_truth": "distilscope.ground_truth:make",
    "draws": "distilscope.work:draw_tile",
    "training": "distilscope.work:train_model",
    "scores": "distilscope.work:score_draws",
}


def draw_tile(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    model = _model(inputs["model"], config["dtype"])
    prompted = model.after(model.encode(config["prompt"]), horizon=config["horizon"])
    draws = sampler.draw(
        model.network,
        prompt=prompted.prompt,
        horizon=prompted.horizon,
        stopping=model.stopping,
        selectivity=from_knobs(config["selectivity"]),
        draws=config["draws"],
        slots=config["slots"],
        key=_key(config["key"]).child("tile", config["tile"]),
    )
    draws.save(output / "sequences.safetensors")
    return {"sequences": len(draws), "tokens": len(draws.ids), "ended": int(draws.ended.sum())}


def train_model(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int | float]:
    _model.cache_clear()  # a training needs the memory more
    data, validation = read_draws(inputs, "data"), read_draws(inputs, "validation")
    key, tokenizer = _key(config["key"]), inputs["tokenizer"]
    network = Llama.from_config(Size(**config["size"]).architecture(data.vocabulary, config["context"]), key.child("weights"))
    training = Training(**{**config["training"], "betas": tuple(config["training"]["betas"])})
    trained = train(network, training, data=data, validation=validation, key=key, scratch=scratch)
    text = (tokenizer / "tokenizer.json").read_text(encoding="utf-8")
    write_model(output, network.config, network.to_hf(), stopping=stopping_ids(tokenizer), tokenizer=text)
    record = {"history": trained.history, "chosen_step": trained.chosen_step, "tokens": trained.tokens}
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    chosen = next(entry for entry in trained.history if entry["step"] == trained.chosen_step)
    return {"tokens": trained.tokens, "chosen_step": trained.chosen_step, "held_out_loss": chosen["held_out_loss"]}


def score_draws(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """Scores the first `first` draws under the model, once for each selectivity."""
    draws = read_draws(inputs, "draws")
    draws = draws.take(np.arange(min(len(draws), config["first"])))
    model = _model(inputs["model"], config["dtype"])
    every = score(model.network, draws, tuple(from_knobs(knobs) for knobs in config["selectivities"]))
    arrays = {f"{i}/{name}": array for i, scores in enumerate(every) for name, array in vars(scores).items()}
    save_file(arrays, output / "scores.safetensors")
    return {"sequences": len(draws), "tokens": len(draws.ids)}


def read_draws(inputs: Mapping[str, Path], name: str) -> Sequences:
    """The tiles `name/0`, `name/1`, ... of an input, put together in order."""
    tiles = sorted((path for path in inputs if path.startswith(f"{name}/")), key=lambda path: int(path.split("/")[1]))
    return Sequences.concatenate(Sequences.load(inputs[tile] / "sequences.safetensors") for tile in tiles)


def read_scores(folder: Path, index: int) -> TokenScores:
    """The token scores at the `index`-th selectivity of a `scores` artifact."""
    with safe_open(folder / "scores.safetensors", framework="numpy") as file:
        return TokenScores(*(file.get_tensor(f"{index}/{name}") for name in ("log_prob", "expected", "variance")))


def _key(record: tuple[Any, ...] | list[Any]) -> Key:
    return Key(record[0], tuple(record[1:]))


@lru_cache(maxsize=2)
def _model(folder: Path, dtype: str) -> CausalLM:
    """Kept between steps: one worker often draws or scores several tiles with one model."""
    return CausalLM.from_folder(folder, dtype=getattr(torch, dtype))
