"""Any causal language model that `transformers` knows, by its own forward pass: slower, but general."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from distilscope.errors import UsageError
from distilscope.lm.device import device, send
from distilscope.lm.models.model_folder import read_config, weight_files
from distilscope.lm.network import PIECE, Next
from distilscope.lm.sequences import Prompts, Sequences


class TransformersNetwork:
    """Wraps a `transformers` causal model; its code is the installed library's, never the model folder's."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False).to(device())
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]
        self.context = _context(model.config)
        self.reentrant = False  # some architectures keep a batch's lengths as attributes of the model

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype) -> TransformersNetwork:
        from transformers import AutoModelForCausalLM

        read_config(folder)  # these two refuse code and pickled weights before anything is loaded
        weight_files(folder)
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except (ValueError, OSError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UsageError(f"transformers cannot load {folder}: {reason}") from None
        model, found = loaded
        if lacking := sorted(found["missing_keys"]):  # the library would put random numbers in their place
            raise UsageError(
                f"the weights in {folder} lack {lacking[0]!r}, which this model has; give a complete model folder"
            )
        return cls(model)

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        held: list[Tensor] = []
        for found in self._logits(batch):
            held.append(found)
            whole = torch.cat(held) if len(held) > 1 else found
            *pieces, rest = whole.split(PIECE)
            yield from pieces
            held = [rest]
        yield from held

    def _logits(self, batch: Sequences) -> Iterator[Float[Tensor, "some v"]]:
        lengths, rows_read, where = batch.positions, batch.read(), self.model.device
        start = 0
        while start < len(batch):  # rows in order, as many as PIECE positions allow
            rows = np.arange(start, min(len(batch), start + max(1, PIECE // int(lengths[start:].max()))))
            longest = int(lengths[rows].max())
            ids = np.zeros((len(rows), longest), dtype=np.int64)
            for row, number in zip(ids, rows, strict=True):
                row[: lengths[number]] = rows_read[number]
            real = np.arange(longest) < lengths[rows][:, None]
            output = self.model(
                input_ids=send(ids, where), attention_mask=send(real, where).long(), use_cache=False
            ).logits
            predicts = real & (np.arange(longest) >= batch.contexts[rows][:, None] - 1)
            yield output[send(predicts, where)]
            start += len(rows)

    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> TransformersDecoder:  # noqa: ARG002 (its cache grows)
        return TransformersDecoder(self.model, prompts, slots)


def context_of(folder: Path) -> int:
    """Most tokens that the model in a folder reads, by its configuration alone."""
    from transformers import AutoConfig

    read_config(folder)  # refuses a folder with code of its own
    try:
        return _context(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))
    except (ValueError, OSError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"transformers cannot load {folder}: {reason}; give a model that it knows") from None


def _context(config: Any) -> int:
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 20


class TransformersDecoder:
    """All slots step by step together, on the library's own cache; they begin again when every slot is free."""

    restarts_one_by_one = False

    def __init__(self, model: Any, prompts: Prompts, slots: int) -> None:
        self.model, self.prompts, self.slots = model, prompts, slots
        self.cache: Any = None
        self.history = torch.empty(slots, 0, dtype=torch.int64)

    def begin(self, slots: Int[np.ndarray, " m"], prompts: Int[np.ndarray, " m"]) -> Next:
        prompt = send(np.array(self.prompts[prompts[0]]), self.model.device)
        self.cache, self.history = None, prompt.expand(self.slots, -1)
        return self._next(), slots

    def step(self, slots: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> Next:
        latest = np.zeros(self.slots, dtype=np.int64)  # the other slots idle
        latest[slots] = tokens
        self.history = torch.cat([self.history, send(latest, self.model.device)[:, None]], dim=1)
        return self._next(), slots

    def _next(self) -> Float[Tensor, "slots v"]:
        # at the start, and always for an architecture that keeps no keys and values, the whole history is read
        if self.cache is None:
            output = self.model(input_ids=self.history, use_cache=True)
        else:
            output = self.model(input_ids=self.history[:, -1:], past_key_values=self.cache, use_cache=True)
        self.cache = getattr(output, "past_key_values", None)
        return output.logits[:, -1]
