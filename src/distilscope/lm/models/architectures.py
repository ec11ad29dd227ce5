"""Which class reads a model folder, by its architecture: a new architecture is one more file and one line here."""

from __future__ import annotations

from pathlib import Path

import torch

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm.device import device
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.network import Network, Trainable


def read_network(folder: Path, dtype: torch.dtype) -> Network:
    """The network of a model folder, to draw and score with: Llama's own class, else any that `transformers` knows."""
    llama = Llama.from_folder(folder, dtype)
    if llama is not None:
        return llama.to(device())
    from distilscope.lm.models.transformers_model import TransformersNetwork

    return TransformersNetwork.from_folder(folder, dtype)


def read_trainable(folder: Path) -> Trainable:
    """The network of a model folder in float32, to go on training; UsageError for an architecture that is only read."""
    llama = Llama.from_folder(folder, torch.float32)
    if llama is None:
        raise UsageError(
            f"the model in {folder} is no plain Llama, and only those are trained here; start from one, or from scratch"
        )
    return llama.requires_grad_(True)


def new_trainable(config: LlamaConfig, key: Key) -> Trainable:
    """A network with fresh weights, a function of the key."""
    return Llama.from_config(config, key)
