"""What each kind of step does, in whichever process does it: make p*, draw a tile, train a model, score draws.

Each function takes (config, inputs by name, output folder, scratch folder) and returns counts. It reads nothing else and
draws no random number but from the key in its configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.ground_truth import Size
from distilscope.lm import checkpoint, sampler, scoring, torchrun
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.group import ALONE, Group
from distilscope.lm.llama import Llama
from distilscope.lm.model_folder import load_llama, read_config, stopping_ids, write_model
from distilscope.lm.prompts import chat_template
from distilscope.lm.real_data import Example, read_examples, tokenised
from distilscope.lm.reference import file_digest
from distilscope.lm.sequences import Prompts, Sequences
from distilscope.lm.training import Training, chosen_loss, train
from distilscope.lm.vocabulary import encode, read_tokenizer
from distilscope.runs.stopping import told_to_end
from distilscope.selectivity import from_knobs

T = TypeVar("T")

KINDS = {
    "ground_truth": "distilscope.ground_truth:make",
    "model": "distilscope.ground_truth:make",
    "prompts": "distilscope.work:encode_prompts",
    "data": "distilscope.work:tokenise_data",
    "draws": "distilscope.work:draw_tile",
    "training": "distilscope.work:train_model",
    "scores": "distilscope.work:score_draws",
}


def encode_prompts(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """Writes what all models share: the prompts' token ids, by p*'s tokenizer, and the ids that end a sequence, p*'s."""
    tokenizer = read_tokenizer(inputs["tokenizer"])
    prompts = [encode(tokenizer, text) for text in json.loads(config["texts"])]
    record = {"prompts": prompts, "stopping": sorted(stopping_ids(inputs["tokenizer"]))}
    (output / "prompts.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return {"prompts": len(prompts), "tokens": sum(map(len, prompts))}


def draw_tile(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """The draws `first`, `first` + 1, ...; over all tiles they follow the prompts in turn."""
    model, first = _model(inputs["model"], config["dtype"]), config["first"]
    prompts, stopping = read_prompts(inputs["prompts"])
    draws = (
        replace(model, stopping=stopping, selectivity=from_knobs(config["selectivity"]))
        .after(*prompts, horizon=config["horizon"])
        .sample_after(
            sampler.in_turn(first, config["draws"], len(prompts)),
            key_of(config["key"]).child("tile", config["tile"]),
            slots=config["slots"],
        )
    )
    draws.save(output / "sequences.safetensors")
    return {"sequences": len(draws), "tokens": len(draws.ids), "ended": int(draws.ended.sum())}


def tokenise_data(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """The `rows` rows of a file after the `first`, in the order that the key shuffles all of them into, as sequences."""
    examples = _examples(Path(config["file"]), config["sha256"], config["template"])
    order = key_of(config["key"]).generator().permutation(len(examples))
    prompts, stopping = read_prompts(inputs["prompts"])
    data = tokenised(
        [examples[row] for row in order[config["first"] : config["first"] + config["rows"]]],
        texts=json.loads(config["texts"]),
        prompts=prompts,
        tokenizer=read_tokenizer(inputs["tokenizer"]),
        vocabulary=read_config(inputs["tokenizer"])["vocab_size"],
        stopping=stopping,
        horizon=config["horizon"],
        default=config["default"],
    )
    data.save(output / "sequences.safetensors")
    return {"sequences": len(data), "tokens": len(data.ids), "ended": int(data.ended.sum())}


def train_model(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int | float]:
    """Trains on the first `sequences` draws of `data`, from scratch or from the model `start`, in as many processes as it says."""
    _model.cache_clear()  # a training needs the memory more
    beside = _checkpoint_beside(scratch, config["alike"])
    processes = training_of(config).processes
    if processes == 1:
        train_share(config, inputs, output, scratch, beside=beside)
    else:
        folders = {name: str(folder) for name, folder in inputs.items()}
        request = {"config": dict(config), "inputs": folders, "output": str(output), "scratch": str(scratch)}
        request["beside"] = None if beside is None else str(beside)
        torchrun.launch("distilscope.training_process", request, processes=processes, scratch=scratch)
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    loss = chosen_loss(record["history"], record["chosen_step"])
    return {name: record[name] for name in ("tokens", "chosen_step", "exact_resume")} | {"held_out_loss": loss}


def _checkpoint_beside(scratch: Path, alike: str) -> Path | None:
    """Where the same training has left its latest checkpoint in another number of processes; marks ours for its likes to find."""
    (scratch / "alike").write_text(alike, encoding="utf-8")
    marks = [mark for mark in scratch.parent.glob("*/alike") if mark.parent != scratch and mark.read_text(encoding="utf-8") == alike]
    found = [file for mark in marks if (file := mark.with_name(checkpoint.NAME)).exists()]
    latest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return latest and latest.parent


def train_share(
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    output: Path,
    scratch: Path,
    *,
    beside: Path | None,
    group: Group = ALONE,
) -> None:
    """One process's part in a training; the first of them writes the model. SIGTERM makes all of them save and end."""
    data, validation = read_draws(inputs, "data", recorded=False), read_draws(inputs, "validation", recorded=False)
    if config["sequences"] < len(data):
        data = data.take(np.arange(config["sequences"]))
    key, tokenizer = key_of(config["key"]), inputs["tokenizer"]
    if "start" in inputs:
        network = _to_train(inputs["start"])
    else:
        network = Llama.from_config(Size(**config["size"]).architecture(data.vocabulary, config["context"]), key.child("weights"))
    with told_to_end() as told:
        trained = train(
            network,
            training_of(config),
            data=data,
            validation=validation,
            key=key,
            scratch=scratch,
            beside=beside,
            group=group,
            told_to_end=told,
        )
    if not group.writes:
        return
    text = (tokenizer / "tokenizer.json").read_text(encoding="utf-8")
    write_model(output, network.config, network.to_hf(), stopping=stopping_ids(tokenizer), tokenizer=text)
    record = {
        "history": trained.history,
        "chosen_step": trained.chosen_step,
        "tokens": trained.tokens,
        "processes": group.size,
        "exact_resume": trained.exact_resume,
    }
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _to_train(start: Path) -> Llama:
    network = load_llama(start, torch.float32)
    if network is None:
        raise UsageError(f"the model in {start} is no plain Llama, and only those are trained here; start from one, or from scratch")
    return network.requires_grad_(True)


def score_draws(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """Scores the first `first` draws of a tile under the model that drew them (`own`, none for data) and, in the same pass, under others.

    `config["others"]` lists, for the inputs `other/0`, `other/1`, ..., a dtype and the selectivities that each is scored at.
    """
    draws = read_draws(inputs, "draws")
    draws = draws.take(np.arange(min(len(draws), config["first"])))
    others: list[scoring.Model] = []
    for i, other in enumerate(config["others"]):
        network = _model(inputs[f"other/{i}"], other["dtype"]).network
        others += [(network, from_knobs(knobs)) for knobs in other["selectivities"]]
    arrays: dict[str, np.ndarray] = {}
    if "own" in config:
        own = _model(inputs["own"], config["own"]["dtype"]).network, from_knobs(config["own"]["selectivity"])
        mine, theirs = scoring.score(own, draws, others)
        arrays = {f"own/{name}": array for name, array in vars(mine).items()}
    else:  # real data: no model here made it
        theirs = scoring.score_data(draws, others)
    arrays |= {f"{i}/{name}": array for i, scores in enumerate(theirs) for name, array in vars(scores).items()}
    save_file(arrays, output / "scores.safetensors")
    return {"sequences": len(draws), "tokens": len(draws.ids)}


def read_draws(inputs: Mapping[str, Path], name: str, *, recorded: bool = True) -> Sequences:
    """The tiles `name/0`, `name/1`, ... of an input, put together in order; with the log-probabilities that were recorded, or without."""
    tiles = (Sequences.load(tile / "sequences.safetensors") for tile in numbered(inputs, name))
    return Sequences.concatenate(tiles if recorded else (replace(tile, log_prob=None) for tile in tiles))


def numbered(inputs: Mapping[str, T], name: str) -> list[T]:
    """The inputs `name/0`, `name/1`, ..., in order."""
    found = {int(path.split("/")[1]): one for path, one in inputs.items() if path.startswith(f"{name}/")}
    return [found[i] for i in sorted(found)]


def read_prompts(folder: Path) -> tuple[Prompts, frozenset[int]]:
    """The prompts and the stopping ids."""
    record = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    return tuple(map(tuple, record["prompts"])), frozenset(record["stopping"])


def read_training(folder: Path) -> dict[str, Any]:
    """A training's curve (`history`, per evaluation) and the step whose weights were kept (`chosen_step`)."""
    return json.loads((folder / "training.json").read_text(encoding="utf-8"))


def read_own_scores(folder: Path) -> scoring.OwnScores:
    """The scores of the draws under what drew them."""
    with safe_open(folder / "scores.safetensors", framework="numpy") as file:
        return scoring.OwnScores(*(file.get_tensor(f"own/{name}") for name in ("log_prob", "expected", "variance")))


def read_other_scores(folder: Path, index: int) -> scoring.TokenScores:
    """The scores under the `index`-th of the others, every selectivity of a model counted as one."""
    with safe_open(folder / "scores.safetensors", framework="numpy") as file:
        return scoring.TokenScores(*(file.get_tensor(f"{index}/{name}") for name in ("log_prob", "expected")))


def key_of(record: tuple[Any, ...] | list[Any]) -> Key:
    """A key as a step's configuration holds it: the seed, then the path."""
    return Key(record[0], tuple(record[1:]))


def training_of(config: Mapping[str, Any]) -> Training:
    """How a `training` step trains."""
    return Training(**{**config["training"], "betas": tuple(config["training"]["betas"])})


@lru_cache(maxsize=1)
def _examples(file: Path, sha256: str, template: str) -> tuple[Example, ...]:
    """Kept between steps: each takes a few rows of the one file."""
    if file_digest(file) != sha256:
        raise UsageError(f"{file} has changed since the study was planned; run it again")
    return read_examples(file, template=chat_template(Path(template)) if template else None)


@lru_cache(maxsize=2)
def _model(folder: Path, dtype: str) -> CausalLM:
    """Kept between steps: one worker often draws or scores several tiles with one model."""
    return CausalLM.from_folder(folder, dtype=getattr(torch, dtype))
