"""Draws of a language model: token ids, lengths and whether each sequence ended. Text is for eyes only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from distilscope.errors import StoreError
from distilscope.lm.shared_prefixes import Prefixes

Prompts = tuple[tuple[int, ...], ...]
"""Token ids of one prompt or several, each of at least one token."""


def id_dtype(vocabulary: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds every id of the vocabulary."""
    return np.min_scalar_type(vocabulary - 1)


@dataclass(frozen=True)
class Sequences:
    """Sequences generated after prompts, stored end to end without padding.

    A sequence that ended has its stopping token as its last id, counted in its length; one cut at the
    horizon has none appended. A prompt is context: its ids are not among `ids`.
    """

    ids: Integer[np.ndarray, " tokens"]
    lengths: Int[np.ndarray, " n"]
    ended: Bool[np.ndarray, " n"]
    prompts: Prompts
    vocabulary: int
    log_prob: Float[np.ndarray, " tokens"] | None = None
    """Each token's log-probability (nats) under what drew it, as recorded while drawing."""
    prompt_of: Int[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """Which of `prompts` each sequence follows; left out, all follow the first."""

    def __post_init__(self) -> None:
        if not len(self.prompt_of):
            object.__setattr__(self, "prompt_of", np.zeros(len(self.lengths), dtype=np.int32))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def contexts(self) -> Int[np.ndarray, " n"]:
        """The length of each sequence's prompt."""
        return np.array([len(prompt) for prompt in self.prompts])[self.prompt_of]

    @property
    def positions(self) -> Int[np.ndarray, " n"]:
        """How many tokens a network reads to predict each sequence: its prompt and all its ids but the last one."""
        return self.contexts + self.lengths - 1

    def read(self) -> list[Integer[np.ndarray, " positions"]]:
        """Those tokens, sequence by sequence."""
        prompts = [np.array(prompt, dtype=np.int64) for prompt in self.prompts]
        return [
            np.concatenate([prompts[which], row[:-1]]) for which, row in zip(self.prompt_of.tolist(), self, strict=True)
        ]

    @cached_property
    def prefixes(self) -> Prefixes:
        """The distinct prefixes of those tokens. Cached: every network that scores a batch asks for them."""
        return Prefixes.among(self.read())

    @cached_property
    def offsets(self) -> Int[np.ndarray, " n_plus_1"]:
        """Where each sequence begins among `ids`, and their total. Cached: every batch asks for it."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each sequence's ids."""
        return iter(np.split(self.ids, self.offsets[1:-1])) if len(self) else iter(())

    def take(self, rows: Int[np.ndarray, " m"]) -> Sequences:
        """The given draws, in the given order."""
        starts = self.offsets[rows]
        lengths = self.lengths[rows]
        tokens = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) + np.arange(lengths.sum())
        return replace(
            self,
            ids=self.ids[tokens],
            lengths=lengths,
            ended=self.ended[rows],
            log_prob=None if self.log_prob is None else self.log_prob[tokens],
            prompt_of=self.prompt_of[rows],
        )

    def sum_per_sequence(self, per_token: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " n"]:
        """Adds up a value per token within each sequence, in double precision."""
        return np.add.reduceat(per_token.astype(np.float64), self.offsets[:-1]) if len(self) else np.zeros(0)

    @classmethod
    def concatenate(cls, parts: Iterable[Sequences]) -> Sequences:
        parts = list(parts)
        if len({(part.prompts, part.vocabulary) for part in parts}) != 1:
            raise ValueError("only sequences over the same prompts and one vocabulary can be put together")
        recorded = [part.log_prob for part in parts if part.log_prob is not None]
        return replace(
            parts[0],
            ids=np.concatenate([part.ids for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            ended=np.concatenate([part.ended for part in parts]),
            log_prob=np.concatenate(recorded) if len(recorded) == len(parts) else None,
            prompt_of=np.concatenate([part.prompt_of for part in parts]),
        )

    def save(self, path: Path) -> None:
        """One safetensors file; equal sequences give equal bytes."""
        arrays = {"ids": self.ids, "lengths": self.lengths, "ended": self.ended, "prompt_of": self.prompt_of}
        if self.log_prob is not None:
            arrays["log_prob"] = self.log_prob
        # one entry, for safetensors writes several in no fixed order
        header = {"after": json.dumps({"prompts": self.prompts, "vocabulary": self.vocabulary})}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata=header)

    @classmethod
    def load(cls, path: Path) -> Sequences:
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                header = json.loads((file.metadata() or {})["after"])
            prompts, vocabulary = tuple(tuple(prompt) for prompt in header["prompts"]), header["vocabulary"]
            sequences = cls(
                arrays["ids"],
                arrays["lengths"],
                arrays["ended"],
                prompts,
                vocabulary,
                arrays.get("log_prob"),
                arrays["prompt_of"],
            )
        except (SafetensorError, KeyError) as error:
            raise StoreError(f"{path} does not hold whole sequences ({error}); make it again") from None
        if int(sequences.lengths.sum()) != len(sequences.ids):
            raise StoreError(
                f"{path} holds {len(sequences.ids)} tokens where its lengths say {int(sequences.lengths.sum())}; make "
                "it again"
            )
        return sequences
