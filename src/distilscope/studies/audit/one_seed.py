"""One seed of the study by the definition: a trap changes one thing of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from distilscope.distribution import Key
from distilscope.lm import scoring
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.network import Network
from distilscope.lm.samplers import decoder_sampler
from distilscope.lm.sequences import Prompts, Sequences
from distilscope.lm.training.loop import Trained, chosen_loss, train
from distilscope.selectivity import UNCHANGED, Selectivity
from distilscope.studies.artifacts import (
    key_of,
    numbered,
    read_draws,
    read_other_scores,
    read_own_scores,
    read_prompts,
    read_training,
)
from distilscope.studies.config import Size
from distilscope.studies.steps.train import training_of


@dataclass(frozen=True)
class Evaluation:
    """A student compared with p*, in nats per sequence."""

    draws: Sequences
    own: Float[np.ndarray, " n"]
    """log q of its draws, as recorded while drawing."""
    of_truth: Float[np.ndarray, " n"]
    """log p* of its draws."""
    recall: float
    """Mean log q of p*'s test draws."""

    @property
    def precision(self) -> float:
        return float(self.of_truth.mean())

    @property
    def entropy(self) -> float:
        return -float(self.own.mean())

    @property
    def length(self) -> float:
        return float(self.draws.lengths.mean())

    @property
    def ended(self) -> float:
        return float(self.draws.ended.mean())


class Material:
    """The artifacts of one seed, read on first use.

    `config` holds the seed and what made them: `learning`, the configuration of the direct student's training, and
    `drawing`, that of its draws. Means are plain, without control variates: those need draws of the distribution that
    is scored.
    """

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
        self.config, self.inputs = config, inputs
        self.seed: int = config["seed"]
        learning, drawing = config["learning"], config["drawing"]
        self.training = training_of(learning)
        self.learning_key, self.drawing_key = key_of(learning["key"]), key_of(drawing["key"])
        self.horizon: int = drawing["horizon"]
        self.slots: int = drawing["slots"]
        self.number: int = drawing["draws"]
        self.temperature: float = config["temperature"]
        """The training temperature of the distilled student."""

    @cached_property
    def truth(self) -> CausalLM:
        """p*."""
        return CausalLM.from_folder(self.inputs["truth"], dtype=getattr(torch, self.config["truth_dtype"]))

    @cached_property
    def prompts(self) -> Prompts:
        return read_prompts(self.inputs["prompts"])[0]

    @cached_property
    def stopping(self) -> frozenset[int]:
        return read_prompts(self.inputs["prompts"])[1]

    @cached_property
    def shards(self) -> tuple[Sequences, ...]:
        """D."""
        return self._tiles("train")

    @cached_property
    def distilled_shards(self) -> tuple[Sequences, ...]:
        """D'."""
        return self._tiles("distilled-train")

    @cached_property
    def train(self) -> Sequences:
        return Sequences.concatenate(self.shards)

    @cached_property
    def validation(self) -> Sequences:
        return read_draws(self.inputs, "validation")

    @cached_property
    def test(self) -> Sequences:
        return read_draws(self.inputs, "test")

    @cached_property
    def direct(self) -> Evaluation:
        return self._evaluation("direct")

    @cached_property
    def distilled(self) -> Evaluation:
        return self._evaluation("distilled")

    @cached_property
    def architecture(self) -> LlamaConfig:
        learning = self.config["learning"]
        return Size(**learning["size"]).architecture(self.train.vocabulary, learning["context"])

    def network(self, whose: str, dtype: str = "float32") -> Network:
        """`direct` or `distilled`, as it was trained."""
        return CausalLM.from_folder(self.inputs[whose], dtype=getattr(torch, dtype)).network

    def held_out_loss(self, whose: str) -> float:
        """Held-out loss of the chosen checkpoint, in nats per token."""
        record = read_training(self.inputs[whose])
        return chosen_loss(record["history"], record["chosen_step"])

    def learn(
        self,
        data: Sequences,
        *,
        validation: Sequences | None = None,
        key: Key | None = None,
        start: Llama | None = None,
        after_step: Callable[[int], object] | None = None,
    ) -> Trained:
        """Train a student as the study does, except for what is given."""
        key = key or self.learning_key
        network = start or Llama.from_config(self.architecture, key.child("weights"))
        with tempfile.TemporaryDirectory() as scratch:
            trained = train(
                network,
                self.training,
                data=data,
                validation=validation or self.validation,
                key=key,
                scratch=Path(scratch),
                after_step=after_step,
            )
        trained.network.requires_grad_(False)
        return trained

    def draw(self, network: Network, *, selectivity: Selectivity = UNCHANGED, key: Key | None = None) -> Sequences:
        """Draw as many sequences as the study does for a student, with its random numbers unless a key is given."""
        model = CausalLM(network, self.stopping, selectivity=selectivity)
        prompt_of = decoder_sampler.in_turn(0, self.number, len(self.prompts))
        key = (key or self.drawing_key).child("tile", 0)
        return model.after(*self.prompts, horizon=self.horizon).sample_after(prompt_of, key, slots=self.slots)

    def of_truth(self, draws: Sequences) -> Float[np.ndarray, " n"]:
        """log p* of each draw."""
        return draws.sum_per_sequence(scoring.log_prob((self.truth.network, UNCHANGED), draws))

    def recall(self, network: Network) -> float:
        return float(self.test.sum_per_sequence(scoring.log_prob((network, UNCHANGED), self.test)).mean())

    def evaluate(self, network: Network, *, key: Key | None = None) -> Evaluation:
        draws = self.draw(network, key=key)
        return Evaluation(draws, recorded(draws), self.of_truth(draws), self.recall(network))

    def _tiles(self, name: str) -> tuple[Sequences, ...]:
        return tuple(Sequences.load(path) for path in self.files(name))

    def files(self, name: str) -> list[Path]:
        """The tiles of an input, in order."""
        return [folder / "sequences.safetensors" for folder in numbered(self.inputs, name)]

    def _evaluation(self, whose: str) -> Evaluation:
        """Evaluate a student from the study's scores, after both gates."""
        draws = read_draws(self.inputs, f"{whose}-draws")
        own = read_own_scores(self.inputs[f"{whose}-scores"])
        own.check(draws, dtype="float32", whose=f"the {whose} student, seed {self.seed}")
        read_own_scores(self.inputs["recall"]).check(self.test, dtype=self.config["truth_dtype"], whose="p*")
        truth = read_other_scores(self.inputs[f"{whose}-scores"], 0).log_prob
        recall = read_other_scores(self.inputs["recall"], self.config["index"][whose]).log_prob
        return Evaluation(
            draws, recorded(draws), draws.sum_per_sequence(truth), float(self.test.sum_per_sequence(recall).mean())
        )


def recorded(draws: Sequences) -> Float[np.ndarray, " n"]:
    """log q of each draw, as recorded while drawing."""
    assert draws.log_prob is not None
    return draws.sum_per_sequence(draws.log_prob)
