"""What each plug point of `lm` promises, of every implementation: the package's own, and one written here in a few
lines. A new architecture, objective, batch source or sampler needs an entry in its table."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distilscope.distribution import Key
from distilscope.errors import GateError
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.architectures import new_trainable
from distilscope.lm.models.llama import Llama
from distilscope.lm.network import Network, Trainable
from distilscope.lm.samplers import Sampler, decoder_sampler
from distilscope.lm.scoring import log_prob
from distilscope.lm.sequences import Sequences
from distilscope.lm.training.batches import Batching, BatchSource, Epochs
from distilscope.lm.training.config import Training
from distilscope.lm.training.loop import Trained, train
from distilscope.lm.training.objectives import Objective
from distilscope.lm.training.objectives.cross_entropy import token_loss
from distilscope.selectivity import UNCHANGED, Temperature
from fake_models import TINY, TableLM, ragged, random_table, tiny_llama

KEY = Key(0, ("plug points",))
PLAN = Training(epochs=4, batch_sequences=4, learning_rate=0.02, precision="float32", checkpoint_every=1, evaluations=2)
LENGTHS = [4, 1, 7, 7, 2, 9, 3, 5, 6, 2, 8, 6]
DATA, VALIDATION = ragged(LENGTHS, 5, seed=1), ragged(LENGTHS, 5, seed=1)
"""Learnt by heart, so that the loss must fall."""


# --- the second implementations


class Bigram(nn.Module):
    """A Trainable: the next token's logits are a row of a table, by the token before it."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(vocabulary, vocabulary))

    @property
    def vocabulary(self) -> int:
        return len(self.table)

    @property
    def device(self) -> torch.device:
        return self.table.device

    def training_logits(self, batch: Sequences) -> Tensor:
        before = np.concatenate([read[-len(row) :] for read, row in zip(batch.read(), batch, strict=True)])
        return self.table[torch.from_numpy(before)]

    def frozen(self) -> Network:
        return FrozenBigram(self.table.detach().numpy())

    def write(self, folder: Path, *, stopping: frozenset[int], tokenizer: str | None) -> None:  # noqa: ARG002
        save_file({"table": self.table.detach()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "bigram", "eos_token_id": sorted(stopping)}))


class FrozenBigram(TableLM):
    def log_probs(self, positions: np.ndarray, previous: np.ndarray) -> Tensor:  # noqa: ARG002
        return torch.from_numpy(self.table)[torch.from_numpy(previous)].log_softmax(-1)


def forward_kl(student: Trainable, batch: Sequences, teacher: Network | None) -> Tensor:
    """An Objective: the divergence of the student from a teacher, whatever token was drawn."""
    assert teacher is not None
    with torch.no_grad():
        log_p = torch.cat(list(teacher.logits(batch))).log_softmax(-1)
    log_q = student.training_logits(batch)[: len(batch.ids)].log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class Walk:
    """A BatchSource: a window that moves on by a sequence each step, from a place that the key names."""

    def __init__(self, data: Sequences, training: Training, key: Key) -> None:
        self.data, self.size, self.first = data, training.batch_sequences, int(key.generator().integers(len(data)))

    steps = 12

    @property
    def tokens_per_batch(self) -> int:
        return len(self.data.ids) * self.size // len(self.data)

    def batch(self, step: int) -> Sequences:
        return self.data.take((self.first + step + np.arange(self.size)) % len(self.data))


def one_by_one(network, *, prompts, prompt_of, horizon, stopping, selectivity, slots, key) -> Sequences:  # noqa: ARG001
    """A Sampler: draw by draw and token by token, by whole passes over the prefix and numpy's generator."""
    random, rows, recorded = key.generator(), [], []
    for which in prompt_of:
        row: list[int] = []
        while len(row) < horizon and not (row and row[-1] in stopping):
            asked = Sequences(
                np.array([*row, 0], dtype=np.uint8),
                np.array([len(row) + 1]),
                np.array([False]),
                (prompts[which],),
                network.vocabulary,
            )
            log_q = selectivity(torch.cat(list(network.logits(asked)))[-1:].float()).log_softmax(-1)[0]
            q = log_q.double().exp().numpy()
            row.append(int(random.choice(len(q), p=q / q.sum())))
            recorded.append(float(log_q[row[-1]]))
        rows.append(row)
    return Sequences(
        np.concatenate([np.array(row, dtype=np.uint8) for row in rows]),
        np.array([len(row) for row in rows], dtype=np.int32),
        np.array([row[-1] in stopping for row in rows]),
        prompts,
        network.vocabulary,
        np.array(recorded, dtype=np.float32),
        np.asarray(prompt_of, dtype=np.int32),
    )


# --- the tables


@dataclass(frozen=True)
class Architecture:
    new: Callable[[], Trainable]
    read: Callable[[Path], Network]
    """The network of a folder that `write` left."""


TRAINABLES = {
    "Llama": Architecture(lambda: new_trainable(TINY, KEY), lambda folder: CausalLM.from_folder(folder).network),
    "bigram": Architecture(
        lambda: Bigram(5), lambda folder: FrozenBigram(load_file(folder / "model.safetensors")["table"].numpy())
    ),
}
OBJECTIVES: dict[str, Objective] = {"cross entropy": token_loss, "forward KL": forward_kl}
BATCHINGS: dict[str, Batching] = {"epochs": Epochs, "walk": Walk}
SAMPLERS: dict[str, Sampler] = {"decoder": decoder_sampler.draw, "one by one": one_by_one}

architectures = pytest.mark.parametrize("architecture", TRAINABLES.values(), ids=TRAINABLES)
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
batchings = pytest.mark.parametrize("batching", BATCHINGS.values(), ids=BATCHINGS)
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
TEACHER = tiny_llama(9)


# --- what the training loop does with each


class InterruptedHereError(Exception):
    pass


def learn(network: Trainable, scratch: Path, *, interrupted_after: int = 0, **plugs) -> Trained:
    def after_step(step: int) -> None:
        if step == interrupted_after:
            raise InterruptedHereError

    scratch.mkdir(exist_ok=True)
    where = {"data": DATA, "validation": VALIDATION, "key": KEY, "scratch": scratch}
    return train(network, PLAN, **where, **plugs, teacher=TEACHER, after_step=after_step)


def weights_of(network: Trainable) -> dict[str, bytes]:
    return {name: weight.numpy().tobytes() for name, weight in network.state_dict().items()}


@architectures
@objectives
@batchings
def test_every_combination_learns_and_resumes_to_the_same_bytes(architecture, objective, batching, tmp_path):
    plugs = {"objective": objective, "batching": batching}
    whole = learn(architecture.new(), tmp_path / "whole", **plugs)
    assert weights_of(whole.network) != weights_of(architecture.new())
    assert [entry["step"] for entry in whole.history][-1] == 12
    losses = [entry["training_loss"] for entry in whole.history]
    assert losses[-1] < losses[0]
    for step in (1, 7):
        with pytest.raises(InterruptedHereError):
            learn(architecture.new(), tmp_path / "cut", interrupted_after=step, **plugs)
    again = learn(architecture.new(), tmp_path / "cut", **plugs)
    assert weights_of(again.network) == weights_of(whole.network)
    assert (again.history, again.tokens) == (whole.history, whole.tokens)


# --- Trainable


@architectures
def test_a_trainable_learns_what_is_scored(architecture):
    """Logits with a gradient are those that `frozen` draws and scores by; both see weights that change in place."""
    network = architecture.new()
    assert isinstance(network, Trainable)
    targets, frozen = torch.from_numpy(DATA.ids.astype(np.int64)), network.frozen()
    assert network.vocabulary == frozen.vocabulary == 5
    for _ in range(2):
        logits = network.training_logits(DATA)
        assert len(logits) >= len(targets)
        log_q = logits[: len(targets)].log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        np.testing.assert_allclose(log_q.detach(), log_prob((network.frozen(), UNCHANGED), DATA), atol=1e-5)
        log_q.sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(weight.grad, alpha=0.01)


@architectures
def test_a_trainable_writes_the_model_that_it_is(architecture, tmp_path):
    network = learn(architecture.new(), tmp_path).network
    (tmp_path / "model").mkdir()
    network.write(tmp_path / "model", stopping=frozenset([0]), tokenizer=None)
    read = architecture.read(tmp_path / "model")
    np.testing.assert_array_equal(log_prob((read, UNCHANGED), DATA), log_prob((network.frozen(), UNCHANGED), DATA))


# --- Objective


@objectives
def test_an_objective_is_of_each_token_alone(objective):
    assert isinstance(objective, Objective)
    network = Llama.from_config(TINY, KEY)
    losses = objective(network, DATA, TEACHER)
    assert losses.shape == DATA.ids.shape
    assert losses.requires_grad
    parts = [objective(network, DATA.take(rows), TEACHER) for rows in np.array_split(np.arange(len(DATA)), 5)]
    torch.testing.assert_close(torch.cat(parts), losses, atol=1e-5, rtol=1e-5)
    losses.sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in network.parameters())


# --- BatchSource


@batchings
def test_a_batch_is_a_function_of_key_and_step(batching):
    assert isinstance(batching, Batching)
    source = batching(DATA, PLAN, KEY)
    assert isinstance(source, BatchSource)
    seen = [source.batch(step) for step in range(source.steps)]
    other = batching(DATA, PLAN, KEY)
    for step in (source.steps - 1, 0, 5, 5, 1):
        for name in ("ids", "lengths", "ended", "prompt_of"):
            np.testing.assert_array_equal(getattr(other.batch(step), name), getattr(seen[step], name))
    changed = [batching(DATA, PLAN, Key(seed)).batch(0).ids.tobytes() for seed in range(4)]
    assert len(set(changed)) > 1
    assert source.tokens_per_batch == pytest.approx(np.mean([len(batch.ids) for batch in seen]), abs=1)


# --- Sampler


def drawn(sampler: Sampler, number: int = 300, *, key: Key = KEY) -> tuple[Sequences, float | str]:
    """Draws after two prompts at a temperature, and what the gates say."""
    model = CausalLM(random_table(5, 6, seed=2), frozenset([0]), sampler=sampler).select(Temperature(0.7))
    lm = model.after((1,), (2, 3), horizon=6)
    draws = lm.sample(number, key)
    return draws, lm.score(draws)[0].check(draws, dtype="float32", whose="the model")


@samplers
def test_draws_pass_both_gates_and_are_a_function_of_the_key(sampler):
    assert isinstance(sampler, Sampler)
    draws, z = drawn(sampler)
    assert isinstance(z, float)
    assert draws.prompt_of.tolist() == [0, 1] * 150
    for row, ended in zip(draws, draws.ended.tolist(), strict=True):
        assert 0 not in row[:-1]
        assert ended == (row[-1] == 0)
        assert len(row) == 6 or (ended and len(row) < 6)
    again, other = drawn(sampler)[0], drawn(sampler, key=Key(1))[0]
    assert again.ids.tobytes() == draws.ids.tobytes()
    assert again.log_prob.tobytes() == draws.log_prob.tobytes()
    assert other.ids.tobytes() != draws.ids.tobytes()


@samplers
def test_a_sampler_that_leaves_the_temperature_out_is_found_out(sampler):
    def forgetful(network, **options) -> Sequences:
        return sampler(network, **{**options, "selectivity": UNCHANGED})

    with pytest.raises(GateError):
        drawn(forgetful, 2000)
