"""A causal language model as a value; bound to prompts and a horizon it is a `Distribution` over sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm import scoring
from distilscope.lm.data import tokenizer as vocabulary
from distilscope.lm.models.architectures import read_network
from distilscope.lm.models.model_folder import stopping_ids
from distilscope.lm.network import Network
from distilscope.lm.samplers import Sampler, decoder_sampler
from distilscope.lm.sequences import Prompts, Sequences
from distilscope.selectivity import UNCHANGED, Chain, Selectivity

SLOTS = 256
"""Sequences generated together."""


@dataclass(frozen=True)
class CausalLM:
    """A network, the ids that end a sequence, its tokenizer, the selectivity at each next-token choice, and what draws
    from it."""

    network: Network
    stopping: frozenset[int]
    tokenizer: Tokenizer | None = None
    selectivity: Selectivity = UNCHANGED
    sampler: Sampler = decoder_sampler.draw

    @classmethod
    def from_folder(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> CausalLM:
        """Loads a folder in Hugging Face's layout; architectures other than Llama's by a slower generic path."""
        network = read_network(folder, dtype)
        return cls(network, stopping_ids(folder), vocabulary.read_tokenizer(folder))

    def select(self, by: Selectivity) -> CausalLM:
        """A new model whose every next-token choice is `by` of this one's: not p^beta over whole sequences."""
        return replace(self, selectivity=by if self.selectivity == UNCHANGED else Chain((self.selectivity, by)))

    def encode(self, text: str) -> tuple[int, ...]:
        return vocabulary.encode(self.tokenizer, text)

    def after(self, *prompts: tuple[int, ...], horizon: int) -> PromptedLM:
        """This model's distribution over the sequences of at most `horizon` tokens that follow a prompt, or each of
        several."""
        if horizon < 1:
            raise UsageError(f"the horizon is {horizon}, but at least 1 token must be generated")
        if not prompts:
            raise UsageError("no prompt was given, but at least one is needed")
        for number, prompt in enumerate(prompts, start=1):
            which = _which(number, prompts)
            outside = [token for token in prompt if not 0 <= token < self.network.vocabulary]
            if outside or not prompt:
                what = (
                    f"has token {outside[0]}, outside the vocabulary of {self.network.vocabulary}"
                    if outside
                    else "is empty"
                )
                raise UsageError(f"{which} {what}; give one that the model can read")
        require_context(prompts, horizon, self.network.context)
        return PromptedLM(self, prompts, horizon)


def require_context(prompts: Prompts, horizon: int, context: int) -> None:
    """Raises UsageError unless each prompt and `horizon` tokens after it fit into a model's context."""
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) + horizon > context:
            raise UsageError(
                f"{_which(number, prompts)} of {len(prompt)} and a horizon of {horizon} tokens exceed the model's "
                f"context of {context}; "
                f"use a horizon of at most {context - len(prompt)}"
                if len(prompt) < context
                else (
                    f"{_which(number, prompts)} has {len(prompt)} tokens, but the model's context holds "
                    f"{context}; give a shorter one"
                )
            )


def _which(number: int, prompts: Prompts) -> str:
    return "the prompt" if len(prompts) == 1 else f"prompt {number}"


@dataclass(frozen=True)
class PromptedLM:
    """Sequences x_1...x_L, L <= horizon, that ended with a stopping token or were cut at the horizon, after a prompt.

    p(x | prompt) is the product of next-token probabilities, the stopping token's included where it was emitted and
    none appended where the sequence was cut; so it sums to 1 over these sequences. With several prompts, draws follow
    them in turn.
    """

    model: CausalLM
    prompts: Prompts
    horizon: int

    def sample(self, n: int, key: Key) -> Sequences:
        return self.sample_after(decoder_sampler.in_turn(0, n, len(self.prompts)), key)

    def sample_after(self, prompt_of: Int[np.ndarray, " n"], key: Key, *, slots: int = SLOTS) -> Sequences:
        """One draw after each prompt that `prompt_of` names by its place among `prompts`."""
        return self.model.sampler(
            self.model.network,
            prompts=self.prompts,
            prompt_of=prompt_of,
            horizon=self.horizon,
            stopping=self.model.stopping,
            selectivity=self.model.selectivity,
            slots=slots,
            key=key,
        )

    def score(self, draws: Sequences, *others: PromptedLM) -> tuple[scoring.OwnScores, tuple[scoring.TokenScores, ...]]:
        """Draws of this distribution scored under itself and under others, in one pass (see `scoring.score`)."""
        for side in (self, *others):
            side._require_prompts(draws)
        return scoring.score(self._scorer, draws, [other._scorer for other in others])

    def log_prob(self, x: Sequences) -> Float[Tensor, " n"]:
        """Nats per sequence; -inf for one that cannot be drawn here."""
        self._require_prompts(x)
        total = x.sum_per_sequence(scoring.log_prob(self._scorer, x))
        return torch.from_numpy(np.where(self.possible(x), total, -np.inf))

    def possible(self, x: Sequences) -> Bool[np.ndarray, " n"]:
        """Whether each sequence can be drawn here: it ends with its first stopping token, or is cut at the horizon."""
        stops = np.isin(x.ids, sorted(self.model.stopping))
        ends, number = stops[x.offsets[1:] - 1], x.sum_per_sequence(stops.astype(np.float64))
        return (x.lengths <= self.horizon) & (ends | (x.lengths == self.horizon)) & (number == ends)

    def select(self, by: Selectivity) -> PromptedLM:
        return replace(self, model=self.model.select(by))

    @property
    def _scorer(self) -> scoring.Model:
        return self.model.network, self.model.selectivity

    def _require_prompts(self, x: Sequences) -> None:
        if x.prompts != self.prompts:
            raise ValueError("these sequences follow other prompts")
