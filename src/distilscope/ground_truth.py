"""p*: the distribution to be learnt, and its three disjoint sets of draws (training, validation, test)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm.architecture import LlamaConfig
from distilscope.lm.dtypes import require_dtype
from distilscope.lm.llama import Llama
from distilscope.lm.model_folder import read_config, write_model
from distilscope.lm.prompts import chat_template, prompt_text, read_prompts
from distilscope.lm.reference import digest, model_folder, public_name
from distilscope.lm.vocabulary import require_same_tokens, write_cut_model

SEEDED = "seeded"
"""The reference of a p* that needs no file: a small Llama over bytes with seeded weights."""

_BYTES = 257  # every byte, and one token that ends a sequence


@dataclass(frozen=True)
class Size:
    """Sizes of a Llama-like model, everything but the vocabulary."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("intermediate_size", "layers", "kv_heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"size.{name} is {getattr(self, name)}, but must be at least 1")
        if self.hidden_size < 1 or self.heads < 1 or self.hidden_size % (2 * self.heads):
            raise UsageError(
                f"a hidden size of {self.hidden_size} does not split into {self.heads} heads of an even width; "
                f"use a multiple of {2 * self.heads}"
            )

    def scaled(self, text: str) -> Size:
        """WIDTHxLAYERS, with these proportions otherwise."""
        width, _, layers = text.partition("x")
        if not (width.isdecimal() and layers.isdecimal()):
            raise UsageError(f"the size {text!r} is not WIDTHxLAYERS; write for example 96x3")
        hidden = int(width)
        intermediate = max(1, hidden * self.intermediate_size // self.hidden_size)
        return replace(self, hidden_size=hidden, intermediate_size=intermediate, layers=int(layers))

    def architecture(self, vocabulary: int, context: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.layers,
            num_heads=self.heads,
            num_kv_heads=self.kv_heads,
            head_dim=self.hidden_size // self.heads,
            context=context,
            tied=self.tied,
        )


@dataclass(frozen=True)
class GroundTruth:
    """What p* is and how much of it is drawn."""

    reference: str
    """hf:ORG/NAME, a model folder, a .gguf file, package:NAME, or `seeded`; empty where `draws` stands in for it."""
    size: Size
    """Its sizes: what `plan` counts with, and what `seeded` builds."""
    vocabulary: int
    """Ids kept; 0 keeps all."""
    prompt: str = "The"
    """What every sequence follows, unless `prompts` names a file of them."""
    prompts: str = ""
    """A JSONL or Parquet file with a column `prompt`; draws follow its prompts in turn."""
    chat_template: bool = False
    """Whether p*'s chat template is put around each prompt."""
    horizon: int = 32
    """Most tokens generated after the prompt."""
    dtype: str = "auto"
    """What its matrix products run in; auto is bfloat16 where the processor multiplies it, else float32."""
    num_train: int = 4096
    num_validation: int = 512
    num_eval: int = 256
    """Draws of each side behind precision and recall."""
    description: str = ""
    """Stands wherever results do."""
    sharpness: float = 1.0
    """For `seeded` alone: a factor on the logits."""
    draws: str = ""
    """Real data in place of a model: a JSONL or Parquet file with a column `completion` (text) or `ids` (tokens), and maybe `prompt`."""

    @property
    def name(self) -> str:
        """The reference or file without the place where it lies on this machine."""
        if self.draws:
            return Path(self.draws).name
        return public_name(self.reference)

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "horizon"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.num_eval < 2:
            raise UsageError(f"num_eval is {self.num_eval}, but a standard error needs at least 2 draws")
        if self.vocabulary < 0:
            raise UsageError(f"the vocabulary is {self.vocabulary}, but must be 0 (the whole) or more")
        require_dtype(self.dtype)
        if self.draws and (self.reference or self.prompts):
            other = f"the model {self.reference}" if self.reference else f"the prompts in {self.prompts}"
            raise UsageError(
                f"{other} and the data in {self.draws} are both given, but data brings its own prompts and stands in for a model; "
                "give one of the two (the recipe distil comes without a model)"
            )
        if not 0 < self.sharpness < math.inf:
            raise UsageError(f"the sharpness is {self.sharpness}, but must be a finite number above 0; 1 changes nothing")
        try:
            self.prompt.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the prompt {self.prompt!r} is not text in UTF-8; write it again") from None
        if self.reference == SEEDED and self.vocabulary not in (0, _BYTES):
            raise UsageError(f"the vocabulary is {self.vocabulary}, but the seeded ground truth is over {_BYTES} tokens; leave it out")


def described(before: GroundTruth, after: GroundTruth) -> GroundTruth:
    """`after`, without a description that it only inherited from another model's settings."""
    same = (before.reference, before.vocabulary) == (after.reference, after.vocabulary)
    return after if same or before.description != after.description else replace(after, description="")


@dataclass(frozen=True)
class Source:
    """A model outside the store: its content, where it lies here, and its sizes where they are known."""

    identity: str
    folder: str = ""
    architecture: LlamaConfig | None = None

    @classmethod
    def of(cls, reference: str, *, fetch: bool = True) -> Source:
        """Converted first where needed, and fetched from the hub with `fetch`; without, its content stays unknown."""
        if reference == SEEDED:
            return cls(SEEDED)
        if reference.startswith("hf:") and not fetch:
            return cls(f"unresolved {reference}")
        folder = model_folder(reference)
        return cls(digest(folder), str(folder), LlamaConfig.from_hf(read_config(folder)))


@dataclass(frozen=True)
class PromptSet:
    """The texts that sequences follow, by content."""

    sha256: str
    number: int
    longest: int
    """Bytes of the longest, which has at most as many tokens."""
    texts: str = field(default="[]", compare=False)
    """The texts themselves, as JSON; no part of a study's record."""

    @property
    def typical(self) -> int:
        """Tokens of a prompt, on average, about: a token of English has some four bytes."""
        texts = json.loads(self.texts)
        return max(1, round(sum(len(text.encode()) for text in texts) / (4 * len(texts)))) if texts else 1

    @classmethod
    def of(cls, truth: GroundTruth, source: Source) -> PromptSet:
        template = chat_template(Path(source.folder)) if truth.chat_template else None
        if truth.prompts:
            return cls.of_texts(read_prompts(Path(truth.prompts), template=template))
        return cls.of_texts((prompt_text(truth.prompt, template, "--prompt") if template else truth.prompt,))

    @classmethod
    def of_texts(cls, texts: tuple[str, ...]) -> PromptSet:
        text = json.dumps(texts)
        return cls(hashlib.sha256(text.encode()).hexdigest(), len(texts), max(len(each.encode()) for each in texts), text)

    def as_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "number": self.number, "longest": self.longest}


def make(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """Writes p* as a model folder: the source's with its vocabulary cut, or a seeded one. Another model must have p*'s tokens."""
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
    config = replace(size.architecture(_BYTES, context), initializer_range=1 / math.sqrt(size.hidden_size))
    weights = Llama.from_config(config, Key(0, ("ground truth",))).to_hf()
    weights["model.norm.weight"] = weights["model.norm.weight"] * sharpness
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={"<|end|>": 0} | {symbol: i + 1 for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    cast = {name: weight.to(dtype) for name, weight in weights.items()}
    write_model(folder, config, cast, stopping=frozenset([0]), tokenizer=tokenizer.to_str())
