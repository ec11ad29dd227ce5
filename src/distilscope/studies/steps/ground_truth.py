"""The step that writes p*: a model folder with its vocabulary cut, or a small seeded model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.studies.config import _BYTES, SEEDED, Size
from distilscope.studies.costs import BYTES, Cost
from distilscope.studies.steps.registry import StepKind, register

if TYPE_CHECKING:
    import torch


def make(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """Writes p* as a model folder: the source's with its vocabulary cut, or a seeded one. Another model must have p*'s
    tokens."""
    import torch

    from distilscope.lm.data.tokenizer import require_same_tokens
    from distilscope.lm.models.vocabulary_cut import write_cut_model

    dtype = getattr(torch, config["dtype"])
    if config["reference"] == SEEDED:
        _write_seeded(Size(**config["size"]), config["sharpness"], config["context"], output, dtype)
    else:
        write_cut_model(Path(config["folder"]), output, vocabulary=config["vocabulary"], dtype=dtype)
    if "tokenizer" in inputs:
        require_same_tokens(inputs["tokenizer"], output)
    return {"vocabulary": json.loads((output / "config.json").read_text())["vocab_size"]}


def _write_seeded(size: Size, sharpness: float, context: int, folder: Path, dtype: torch.dtype) -> None:
    """A fixed random Llama over bytes, peaked enough that a small student can learn some of it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from distilscope.distribution import Key
    from distilscope.lm.models.llama import Llama
    from distilscope.lm.models.model_folder import write_model

    config = replace(size.architecture(_BYTES, context), initializer_range=1 / math.sqrt(size.hidden_size))
    weights = Llama.from_config(config, Key(0, ("ground truth",))).to_hf()
    weights["model.norm.weight"] = weights["model.norm.weight"] * sharpness
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={"<|end|>": 0} | {symbol: i + 1 for i, symbol in enumerate(symbols)}, merges=[])
    )
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    cast = {name: weight.to(dtype) for name, weight in weights.items()}
    write_model(folder, config, cast, stopping=frozenset([0]), tokenizer=tokenizer.to_str())


def cost(architecture: LlamaConfig, dtype: str) -> Cost:
    """Of a model that is read, cut and written."""
    return Cost(20.0 * architecture.parameters, disk=architecture.parameters * BYTES[dtype])


GROUND_TRUTH = register(
    StepKind("ground_truth", version=1, function="distilscope.studies.steps.ground_truth:make", cost=cost)
)

MODEL = register(StepKind("model", version=1, function="distilscope.studies.steps.ground_truth:make", cost=cost))
"""A pretrained teacher or student, with p*'s vocabulary."""
