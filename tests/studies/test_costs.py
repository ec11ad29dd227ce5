"""What steps are taken to cost, against what torch counts and what stands on the disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distilscope.distribution import Key
from distilscope.lm import scoring
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.samplers import decoder_sampler
from distilscope.lm.sequences import Sequences
from distilscope.lm.training.config import Training
from distilscope.lm.training.loop import train
from distilscope.pipeline.step import order
from distilscope.pipeline.store import Store
from distilscope.selectivity import Temperature
from distilscope.studies.inputs import PromptSet
from distilscope.studies.run import recorded
from distilscope.studies.steps.draw import DRAWS
from distilscope.studies.steps.score import SCORES
from distilscope.studies.steps.train import TRAINING

MODEL = LlamaConfig(
    vocab_size=100, hidden_size=8, intermediate_size=16, num_layers=3, num_heads=2, num_kv_heads=1, head_dim=4
)
HORIZON = 5


def whole(number: int, *, prompt: int) -> Sequences:
    """Sequences that were all cut at the horizon."""
    ids = np.arange(number * HORIZON) % MODEL.vocab_size
    lengths = np.full(number, HORIZON, dtype=np.int32)
    return Sequences(ids, lengths, np.zeros(number, dtype=bool), (tuple(range(prompt)),), MODEL.vocab_size)


def frozen(seed: int) -> Llama:
    return Llama.from_config(MODEL, Key(seed)).requires_grad_(False)


@pytest.fixture
def products(monkeypatch):
    """FLOPs of the products with weights, as torch counts them: `mm`; attention's own are `bmm`."""
    monkeypatch.setattr(
        torch.backends.mkldnn, "is_available", lambda: False
    )  # the counter does not know oneDNN's operators

    def counted(work) -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_flop_counts()["Global"][torch.ops.aten.mm]

    return counted


@pytest.mark.parametrize("prompt", [1, 4])
def test_a_training_costs_what_torch_counts(products, tmp_path, prompt):
    training = Training(epochs=2, precision="float32", batch_sequences=3, evaluations=3)
    data, held_out = whole(7, prompt=prompt), whole(4, prompt=prompt)
    found = products(
        lambda: train(
            Llama.from_config(MODEL, Key(0)), training, data=data, validation=held_out, key=Key(0), scratch=tmp_path
        )
    )
    cost = TRAINING.cost(MODEL, training, sequences=7, horizon=HORIZON, prompts=1, prompt=prompt, held_out=4)
    assert (cost.flops, cost.tokens) == (found, 2 * 7 * HORIZON)
    assert cost.memory > 20 * MODEL.parameters


@pytest.mark.parametrize("prompt", [1, 4])
def test_scoring_costs_what_torch_counts(products, prompt):
    draws, one, other = whole(6, prompt=prompt), frozen(0), frozen(1)
    found = products(
        lambda: scoring.score_data(
            draws, [(one, Temperature(1.0)), (other, Temperature(0.5)), (other, Temperature(0.7))]
        )
    )
    models = [(MODEL, "float32"), (MODEL, "bfloat16")]
    cost = SCORES.cost(models, draws=6, horizon=HORIZON, prompts=1, prompt=prompt, settings=3)
    assert (cost.flops, cost.memory) == (found, 6 * MODEL.parameters)


def test_drawing_costs_what_torch_counts(products):
    def draw(prompts: tuple[tuple[int, ...], ...]) -> Sequences:
        return decoder_sampler.draw(
            frozen(0),
            prompts=prompts,
            prompt_of=np.zeros(10, dtype=np.int64),
            horizon=HORIZON,
            stopping=set(),
            selectivity=Temperature(1.0),
            slots=5,
            key=Key(1),
        )

    cost = DRAWS.cost(MODEL, "bfloat16", draws=10, horizon=HORIZON, context=1, slots=4)
    assert cost.flops == products(lambda: draw(((1,),))) - MODEL.flops_per_token  # of reading the prompt
    assert (cost.tokens, cost.disk) == (50, 50 * 6 + 10 * 9)
    assert cost.memory == 2 * MODEL.parameters + 4 * (2 * 3 * 1 * 4 * 2 * 6 + 16 * 100)


@pytest.mark.parametrize(("steps", "kept"), [(3, 1), (4, 1), (5, 2)])
def test_the_last_step_leaves_a_model_and_no_checkpoint(steps, kept):
    training = Training(epochs=1, precision="float32", batch_sequences=1, checkpoint_every=2)
    cost = TRAINING.cost(MODEL, training, sequences=steps, horizon=HORIZON, prompts=1, prompt=1, held_out=0)
    assert cost.checkpoints == kept * 16 * MODEL.parameters


def test_a_prompts_tokens_are_guessed_from_its_bytes():
    assert PromptSet.of_texts(("The",)).typical == 1
    assert PromptSet.of_texts(("a" * 40, "b" * 80)).typical == 15


OVERHEAD = 8192
"""Bytes of a manifest and of a file's header."""


def test_the_disk_holds_what_was_foreseen(undisturbed: Path):
    study, store = recorded(undisturbed), Store(undisturbed / "store")
    for step in order(study.targets):
        taken = sum(file.stat().st_size for file in store.path(step).iterdir() if file.name != "tokenizer.json")
        drawn, disk = store.manifest(step)["counts"].get("tokens", 0), study.costs[step].disk
        fewer = drawn / step.tokens if step.kind in ("draws", "scores") else 1.0
        assert disk * fewer - OVERHEAD < taken < disk + OVERHEAD, (step.stage, taken, disk)
