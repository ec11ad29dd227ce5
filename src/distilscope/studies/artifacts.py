"""Reads what steps leave in the store: draws, prompts, training curves, scores, models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open

from distilscope.distribution import Key
from distilscope.lm import scoring
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.sequences import Prompts, Sequences

T = TypeVar("T")


def read_draws(inputs: Mapping[str, Path], name: str, *, recorded: bool = True) -> Sequences:
    """The tiles `name/0`, `name/1`, ... of an input, put together in order; with the log-probabilities that were
    recorded, or without."""
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


@lru_cache(maxsize=2)
def _model(folder: Path, dtype: str) -> CausalLM:
    """Kept between steps: one worker often draws or scores several tiles with one model."""
    return CausalLM.from_folder(folder, dtype=getattr(torch, dtype))
