"""A causal language model as a value; bound to a prompt and a horizon it is a `Distribution` over sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm import sampler, scoring, vocabulary
from distilscope.lm.model_folder import load_llama, stopping_ids
from distilscope.lm.network import Network
from distilscope.lm.sequences import Sequences
from distilscope.selectivity import UNCHANGED, Chain, Selectivity

SLOTS = 256
"""Sequences generated together."""


@dataclass(frozen=True)
class CausalLM:
    """A network, its tokenizer, the ids that end a sequence, and the selectivity at each next-token choice."""

    network: Network
    stopping: frozenset[int]
    tokenizer: Tokenizer | None = None
    selectivity: Selectivity = UNCHANGED

    @classmethod
    def from_folder(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> CausalLM:
        """Loads a folder in Hugging Face's layout; architectures other than Llama's by a slower generic path."""
        network = load_llama(folder, dtype)
        if network is None:
            from distilscope.lm.transformers_network import TransformersNetwork

            network = TransformersNetwork.from_folder(folder, dtype)
        path = folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path)) if path.exists() else None
        except Exception as error:  # `tokenizers` raises nothing more specific
            raise UsageError(f"{path} is no tokenizer ({error}); give a complete model folder") from None
        return cls(network, stopping_ids(folder), tokenizer)

    def select(self, by: Selectivity) -> CausalLM:
        """A new model whose every next-token choice is `by` of this one's: not p^beta over whole sequences."""
        return replace(self, selectivity=by if self.selectivity == UNCHANGED else Chain((self.selectivity, by)))

    def encode(self, text: str) -> tuple[int, ...]:
        if self.tokenizer is None:
            raise UsageError("the model has no tokenizer.json, so a prompt cannot be read; give a complete model folder")
        return vocabulary.encode(self.tokenizer, text)

    def after(self, prompt: tuple[int, ...], *, horizon: int) -> PromptedLM:
        """This model's distribution over the sequences of at most `horizon` tokens that follow `prompt`."""
        if horizon < 1:
            raise UsageError(f"the horizon is {horizon}, but at least 1 token must be generated")
        outside = [token for token in prompt if not 0 <= token < self.network.vocabulary]
        if outside or not prompt:
            what = f"has token {outside[0]}, outside the vocabulary of {self.network.vocabulary}" if outside else "is empty"
            raise UsageError(f"the prompt {what}; give one that the model can read")
        if len(prompt) + horizon > self.network.context:
            raise UsageError(
                f"a prompt of {len(prompt)} and a horizon of {horizon} tokens exceed the model's context of {self.network.context}; "
                f"use a horizon of at most {self.network.context - len(prompt)}"
            )
        return PromptedLM(self, prompt, horizon)


@dataclass(frozen=True)
class PromptedLM:
    """Sequences x_1...x_L, L <= horizon, that ended with a stopping token or were cut at the horizon.

    p(x | prompt) is the product of next-token probabilities, the stopping token's included where it was emitted and none
    appended where the sequence was cut; so it sums to 1 over these sequences.
    """

    model: CausalLM
    prompt: tuple[int, ...]
    horizon: int

    def sample(self, n: int, key: Key) -> Sequences:
        return sampler.draw(
            self.model.network,
            prompt=self.prompt,
            horizon=self.horizon,
            stopping=self.model.stopping,
            selectivity=self.model.selectivity,
            draws=n,
            slots=SLOTS,
            key=key,
        )

    def score(self, x: Sequences) -> scoring.TokenScores:
        """Per token: log-probability, its expectation and its variance under this distribution."""
        if x.prompt != self.prompt:
            raise ValueError("these sequences follow another prompt")
        return scoring.score(self.model.network, x, (self.model.selectivity,))[0]

    def log_prob(self, x: Sequences) -> Float[Tensor, " n"]:
        """Nats per sequence; -inf for one that this distribution cannot make (too long, cut short, going on after a stop)."""
        stops = np.isin(x.ids, sorted(self.model.stopping))
        ends, number = stops[x.offsets[1:] - 1], x.sum_per_sequence(stops.astype(np.float64))
        possible = (x.lengths <= self.horizon) & (ends | (x.lengths == self.horizon)) & (number == ends)
        return torch.from_numpy(np.where(possible, x.sum_per_sequence(self.score(x).log_prob), -np.inf))

    def select(self, by: Selectivity) -> PromptedLM:
        return replace(self, model=self.model.select(by))
