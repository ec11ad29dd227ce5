"""Cuts a model's vocabulary to its first V ids, so that small students over it are trainable on a CPU.

A byte-level BPE gives ids in the order of its merges, so ids < V and the merges that produce them are again a
tokenizer, and the model with its embedding rows sliced is an ordinary model whose softmax renormalises by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import pre_tokenizers

from distilscope.errors import UsageError
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.models.model_folder import copy_model, read_config, read_weights, stopping_ids, write_model


def cut_tokenizer(text: str, vocabulary: int, stopping: frozenset[int]) -> str:
    """tokenizer.json with the ids below `vocabulary` and the merges that produce them.

    Raises UsageError unless ids follow merge order and every single-byte symbol that the tokenizer has, and every
    stopping id, is below `vocabulary`.
    """
    document = json.loads(text)
    model = document["model"]
    if model.get("type") != "BPE" or (document.get("decoder") or {}).get("type") != "ByteLevel":
        raise UsageError("only a byte-level BPE vocabulary can be cut; leave the vocabulary whole (vocabulary 0)")
    ids: dict[str, int] = model["vocab"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    _require_merge_order(ids, merges)
    needed = {
        f"the single-byte symbol {symbol!r}": ids[symbol]
        for symbol in pre_tokenizers.ByteLevel.alphabet()
        if symbol in ids
    }
    needed |= {f"the stopping token {stop}": stop for stop in stopping}
    what, highest = max(needed.items(), key=lambda item: item[1])
    if vocabulary <= highest:
        raise UsageError(
            f"a vocabulary of {vocabulary} cuts off {what} (id {highest}); use at least {highest + 1}, or 0 for the "
            "whole"
        )
    model["vocab"] = {token: i for token, i in ids.items() if i < vocabulary}
    model["merges"] = [list(merge) for merge in merges if ids["".join(merge)] < vocabulary]
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] < vocabulary]
    return json.dumps(document, ensure_ascii=False)


def _require_merge_order(ids: Mapping[str, int], merges: list[tuple[str, ...]]) -> None:
    last = -1
    for left, right in merges:
        made = ids[left + right]
        if made <= max(last, ids[left], ids[right]):
            raise UsageError(
                f"token {left + right!r} (id {made}) comes before the merges that produce it, so no cut is sound; use "
                "vocabulary 0"
            )
        last = made


def write_cut_model(source: Path, folder: Path, *, vocabulary: int, dtype: torch.dtype) -> None:
    """Writes the model in `source` with its first `vocabulary` ids (0: all), its weights in `dtype`."""
    config, stopping = LlamaConfig.from_hf(read_config(source)), stopping_ids(source)
    if config is None and not vocabulary:
        copy_model(source, folder)
        return
    if config is None:
        raise UsageError(
            f"the model in {source} is not a plain Llama, so its vocabulary cannot be cut; use vocabulary 0"
        )
    if vocabulary > config.vocab_size:
        raise UsageError(
            f"the vocabulary is {vocabulary}, but the model has only {config.vocab_size} tokens; use at most that, or "
            "0 for all"
        )
    if not (source / "tokenizer.json").exists():
        raise UsageError(f"{source} has no tokenizer.json, so a prompt cannot be read; give a complete model folder")
    tokenizer = (source / "tokenizer.json").read_text(encoding="utf-8")
    weights = read_weights(source)
    if vocabulary:
        tokenizer = cut_tokenizer(tokenizer, vocabulary, stopping)
        config = replace(config, vocab_size=vocabulary)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if name in weights:
                weights[name] = weights[name][:vocabulary].clone()
    weights = {name: weight.to(dtype) for name, weight in weights.items()}
    write_model(folder, config, weights, stopping=stopping, tokenizer=tokenizer)
