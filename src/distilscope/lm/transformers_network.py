"""Any causal language model that `transformers` knows, by its own forward pass: slower, but general."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor

from distilscope.errors import UsageError
from distilscope.lm.model_folder import read_config, weight_files
from distilscope.lm.network import PIECE, in_pieces
from distilscope.lm.sequences import Sequences


class TransformersNetwork:
    """Wraps a `transformers` causal model; its code is the installed library's, never the model folder's."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]
        text = model.config.get_text_config()
        self.context: int = getattr(text, "max_position_embeddings", None) or 1 << 20

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype) -> TransformersNetwork:
        from transformers import AutoModelForCausalLM

        read_config(folder)  # these two refuse code and pickled weights before anything is loaded
        weight_files(folder)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True
            )
        except (ValueError, OSError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UsageError(f"transformers cannot load {folder}: {reason}") from None
        return cls(model)

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        first = len(batch.prompt) - 1
        lengths = batch.lengths.astype(np.int64) + first
        start = 0
        while start < len(batch):  # rows in order, as many as PIECE positions allow
            rows = np.arange(start, min(len(batch), start + max(1, PIECE // int(lengths[start:].max()))))
            part = batch.take(rows)
            longest = int(lengths[rows].max())
            ids = np.zeros((len(rows), longest), dtype=np.int64)
            for row, tokens in zip(ids, part, strict=True):
                row[: first + len(tokens)] = [*batch.prompt, *tokens[:-1]]
            real = np.arange(longest) < lengths[rows][:, None]
            output = self.model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(real).long(), use_cache=False).logits
            predicts = real & (np.arange(longest) >= first)
            yield from in_pieces(output[torch.from_numpy(predicts)])
            start += len(rows)

    def decoder(self, prompt: tuple[int, ...], slots: int, horizon: int) -> TransformersDecoder:  # noqa: ARG002 (its cache grows)
        return TransformersDecoder(self.model, prompt, slots)


class TransformersDecoder:
    """All slots in step, on the library's own cache; a new wave begins when every slot is free."""

    restarts_one_by_one = False

    def __init__(self, model: Any, prompt: tuple[int, ...], slots: int) -> None:
        self.model, self.prompt = model, torch.tensor(prompt).expand(slots, -1)
        self.cache: Any = None
        self.history: Tensor | None = None

    def begin(self, slots: Bool[Tensor, " slots"]) -> None:  # noqa: ARG002 (the rest idle)
        self.cache = self.history = None

    def step(self, tokens: Int[Tensor, " slots"]) -> Float[Tensor, "slots v"]:
        self.history = self.prompt if self.history is None else torch.cat([self.history, tokens[:, None]], dim=1)
        if self.cache is None:  # at the start, and always for an architecture that keeps no keys and values: the whole history
            output = self.model(input_ids=self.history, use_cache=True)
        else:
            output = self.model(input_ids=tokens[:, None], past_key_values=self.cache, use_cache=True)
        self.cache = getattr(output, "past_key_values", None)
        return output.logits[:, -1]
