import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from distilscope.distribution import Key
from distilscope.errors import DistilscopeError, StoppedError, UsageError
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.model_folder import write_model
from distilscope.lm.sequences import Sequences
from distilscope.lm.training import loop as training_module
from distilscope.lm.training.batches import Epochs
from distilscope.lm.training.config import Training
from distilscope.lm.training.loop import Trained, held_out_loss, train
from distilscope.lm.training.objectives.cross_entropy import token_loss
from fake_models import TINY, pack, ragged, tiny_llama, to_transformers

LENGTHS = [4, 1, 7, 7, 2, 9, 3, 5, 6, 2]
DATA, VALIDATION = ragged(LENGTHS, 5, seed=1), ragged(LENGTHS[:6], 5, seed=2)
PLAN = Training(epochs=4, batch_sequences=4, learning_rate=0.01, precision="float32", checkpoint_every=3, evaluations=5)
KEY = Key(0, ("training",))
STEPS = 12


def student(seed: int = 0) -> Llama:
    return Llama.from_config(TINY, Key(seed, ("student",)))


def trained(
    scratch: Path, plan: Training = PLAN, *, key: Key = KEY, data=DATA, validation=VALIDATION, **options
) -> Trained:
    scratch.mkdir(exist_ok=True)
    return train(student(), plan, data=data, validation=validation, key=key, scratch=scratch, **options)


def weights_of(network: Llama) -> bytes:
    return b"".join(weight.detach().numpy().tobytes() for weight in network.parameters())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Trained:
    return trained(tmp_path_factory.mktemp("scratch"))


# --- the schedule


@pytest.mark.parametrize(
    ("warmup", "decay", "steps", "expected"),
    [
        (0.0, 0.0, 4, [1, 1, 1, 1]),
        (0.5, 0.0, 4, [1 / 2, 1, 1, 1]),
        (0.0, 0.5, 4, [1, 1, 1, 1 / 2]),
        (0.4, 0.4, 10, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        (0.01, 0.2, 10, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1 / 2]),
        (1.0, 0.0, 3, [1 / 3, 2 / 3, 1]),
        (0.0, 1.0, 3, [1, 2 / 3, 1 / 3]),
        (0.01, 0.2, 1, [1]),
    ],
)
def test_warm_up_stable_decay(warmup, decay, steps, expected):
    plan = Training(learning_rate=0.25, warmup_fraction=warmup, decay_fraction=decay)
    assert [plan.rate(step, steps) / 0.25 for step in range(steps)] == pytest.approx(expected)


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(1, 60))
def test_the_rate_rises_stays_and_falls_and_is_never_zero(warmup, decay, steps):
    rates = [
        Training(learning_rate=1.0, warmup_fraction=warmup, decay_fraction=decay).rate(step, steps)
        for step in range(steps)
    ]
    assert all(0 < rate <= 1 for rate in rates)
    turn = rates.index(max(rates))
    assert rates[: turn + 1] == sorted(rates[: turn + 1])
    assert rates[turn:] == sorted(rates[turn:], reverse=True)


@pytest.mark.parametrize(("sequences", "batch", "epochs", "steps"), [(10, 4, 4, 12), (8, 4, 1, 2), (1, 64, 3, 3)])
def test_number_of_steps(sequences, batch, epochs, steps):
    assert Training(epochs=epochs, batch_sequences=batch).steps(sequences) == steps


@pytest.mark.parametrize(
    "bad",
    [
        *(
            {name: value}
            for name in ("batch_sequences", "microbatch_tokens", "evaluations", "checkpoint_every", "processes")
            for value in (0, -1)
        ),
        *({"learning_rate": value} for value in (0.0, -1e-3, math.inf, math.nan)),
        *({"clip": value} for value in (0.0, -1.0, math.nan)),
        {"epochs": -1},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"betas": (0.9, math.nan)},
        {"weight_decay": -0.1},
        {"weight_decay": math.nan},
        {"warmup_fraction": -0.1},
        {"decay_fraction": math.nan},
        {"warmup_fraction": 0.6, "decay_fraction": 0.6},
        {"precision": "float64"},
    ],
    ids=str,
)
def test_bad_values_are_refused(bad):
    with pytest.raises(UsageError, match=r"training\."):
        Training(**bad)


# --- the loss


def backward(network: Llama, batch: Sequences, plan: Training) -> float:
    """The mean loss; its gradient, as the optimiser will see it, is left in the network."""
    precision = getattr(torch, plan.precision)
    scaler = training_module._scaler(precision, len(batch.ids))
    loss = training_module._backward(network, batch, plan.microbatch_tokens, precision, scaler)
    for weight in network.parameters():
        weight.grad /= scaler.get_scale()
    training_module._average_and_clip(network, len(batch.ids), clip=1e9)
    return loss / len(batch.ids)


@pytest.mark.parametrize("prompt", [(1,), (3, 1, 4)], ids=["prompt of one", "prompt of three"])
@pytest.mark.parametrize("lengths", [LENGTHS, [4, 2, 2], [6, 6]], ids=["ragged", "filling rows", "equal"])
def test_loss_and_gradient_are_those_of_transformers(prompt, lengths):
    """The stopping token counted, the prompt and what pads excluded, the mean over tokens and not over sequences."""
    data, network = ragged(lengths, 5, prompt), student()
    longest = len(prompt) + max(lengths)
    ids, labels = torch.zeros(len(data), longest, dtype=torch.long), torch.full((len(data), longest), -100)
    for i, row in enumerate(data):
        whole = torch.tensor([*prompt, *row.tolist()])
        ids[i, : len(whole)] = whole
        labels[i, len(prompt) : len(whole)] = whole[len(prompt) :]
    theirs = to_transformers(network).requires_grad_(True)
    loss = theirs(
        input_ids=ids,
        attention_mask=(torch.arange(longest) < torch.tensor(lengths)[:, None] + len(prompt)).long(),
        labels=labels,
    ).loss
    loss.backward()

    assert token_loss(network, data).mean().item() == pytest.approx(loss.item(), abs=1e-5)
    assert held_out_loss(network, data) == pytest.approx(loss.item(), abs=1e-5)
    assert backward(network, data, PLAN) == pytest.approx(loss.item(), abs=1e-5)
    gradients = dict(theirs.named_parameters())
    torch.testing.assert_close(
        network.embedding.grad, gradients["model.embed_tokens.weight"].grad, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        network.blocks[0].down.grad, gradients["model.layers.0.mlp.down_proj.weight"].grad, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(network.norm.grad, gradients["model.norm.weight"].grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("microbatch_tokens", [1, 10, 30])
def test_accumulated_gradients_equal_one_batch(microbatch_tokens):
    whole, parts = student(), student()
    loss = backward(whole, DATA, PLAN)
    again = backward(parts, DATA, replace(PLAN, microbatch_tokens=microbatch_tokens))
    assert again == pytest.approx(loss, abs=1e-5)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_is_near_and_leaves_weights_in_float32(tmp_path, precision):
    exact, mixed = student(), student()
    loss = backward(exact, DATA, PLAN)
    assert backward(mixed, DATA, replace(PLAN, precision=precision)) == pytest.approx(loss, rel=0.02)
    torch.testing.assert_close(mixed.norm.grad, exact.norm.grad, atol=2e-2, rtol=0.1)
    found = trained(tmp_path, replace(PLAN, precision=precision))
    assert {weight.dtype for weight in found.network.parameters()} == {torch.float32}


def test_a_scaled_gradient_that_overflows_costs_its_step_alone(tmp_path):
    """In float16 the first scale (2^16) makes a large loss overflow: the steps are skipped, the scale is halved,
    learning begins."""
    plan = replace(PLAN, precision="float16", epochs=12)
    network = student()
    with torch.no_grad():
        network.embedding.mul_(40)  # logits of a few hundred: scaled gradients beyond 65504
    before = weights_of(network)
    found = train(network, plan, data=DATA, validation=DATA, key=KEY, scratch=tmp_path, after_step=None)
    with safe_open(tmp_path / "checkpoint.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["standing"])["scaler"]["scale"] < 2**16
    assert weights_of(found.network) != before
    assert found.history[-1]["held_out_loss"] < found.history[0]["held_out_loss"]


# --- what is learnt


def test_a_student_learns_to_continue_and_to_stop(tmp_path):
    """Three sequences out of four are 2 3 0, where 0 stops; the fourth is 4 4 and is cut at the horizon of 3 tokens."""
    rows = [(2, 3, 0)] * 3 + [(4, 4, 4)]
    data = pack(rows * 8, [True, True, True, False] * 8, (1,), 5)
    plan = Training(epochs=40, batch_sequences=32, learning_rate=0.02, precision="float32", evaluations=1)
    found = trained(tmp_path, plan, data=data, validation=data)
    lm = CausalLM(found.network.requires_grad_(False), frozenset([0])).after((1,), horizon=3)
    prob = lm.log_prob(pack([rows[0], rows[-1]], [True, False], (1,), 5)).exp().tolist()
    assert prob == pytest.approx([0.75, 0.25], abs=0.05)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 3
    assert found.history[-1]["held_out_loss"] == pytest.approx(entropy, abs=0.03)
    draws = lm.sample(400, Key(0))
    assert draws.ended.mean() == pytest.approx(0.75, abs=0.1)


def test_the_weights_kept_have_the_lowest_held_out_loss(tmp_path, undisturbed):
    contrary = pack([(4, 4, 4, 4)] * 5, [False] * 5, (1,), 5)
    data = pack([(2, 2, 2)] * 10, [False] * 10, (1,), 5)
    found = trained(tmp_path, replace(PLAN, learning_rate=0.05), data=data, validation=contrary)
    held_out = [entry["held_out_loss"] for entry in found.history]
    assert held_out[-1] > min(held_out) + 0.1, "it got worse, so the last weights are not the best"
    for result, validation in ((found, contrary), (undisturbed, VALIDATION)):
        best = min(result.history, key=lambda entry: entry["held_out_loss"])
        assert result.chosen_step == best["step"]
        assert held_out_loss(result.network, validation) == pytest.approx(best["held_out_loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("evaluations", "at"), [(1, [12]), (5, [3, 5, 8, 10, 12]), (12, list(range(1, 13))), (50, list(range(1, 13)))]
)
def test_evaluations_are_evenly_spaced_and_end_with_the_last_step(tmp_path, evaluations, at):
    found = trained(tmp_path, replace(PLAN, evaluations=evaluations))
    assert [entry["step"] for entry in found.history] == at
    assert found.tokens == PLAN.epochs * sum(LENGTHS)


# --- the order of the data


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 5))
def test_every_epoch_is_a_permutation_from_the_key_alone(sequences, batch, epoch):
    per_epoch = math.ceil(sequences / batch)
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)

    def rows(key: Key, seen: list[int]) -> list[int]:
        source = Epochs(ragged([1] * sequences, 5), Training(batch_sequences=batch), key)
        for step in seen:
            source.rows(step)
        return np.concatenate([source.rows(step) for step in steps]).tolist()

    found = rows(KEY, [])
    assert sorted(found) == list(range(sequences))
    assert rows(KEY, list(range(steps.start))) == found, "whatever came before, as after a resume"
    if sequences > 12:
        assert rows(Key(1), []) != found


def test_epochs_differ_from_one_another():
    source = Epochs(ragged([1] * 30, 5), Training(batch_sequences=30), KEY)
    assert len({tuple(source.rows(epoch).tolist()) for epoch in range(4)}) == 4


def test_training_is_a_function_of_the_key(tmp_path, undisturbed):
    assert weights_of(trained(tmp_path / "again").network) == weights_of(undisturbed.network)
    assert weights_of(trained(tmp_path / "other", key=Key(1)).network) != weights_of(undisturbed.network)


# --- interruptions


class InterruptedHereError(Exception):
    pass


def stop_at(step: int):
    def after_step(done: int) -> None:
        if done == step:
            raise InterruptedHereError

    return after_step


def as_bytes(network: Llama, folder: Path) -> bytes:
    write_model(folder, TINY, network.to_hf(), stopping=frozenset([0]), tokenizer=None)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stops", [[1], [2], [3], [4], [9], [11], [2, 5, 5, 7, 11], [12]], ids=str)
def test_a_resumed_training_ends_with_the_same_bytes(tmp_path, undisturbed, stops):
    for step in stops:
        with pytest.raises(InterruptedHereError):
            trained(tmp_path / "scratch", after_step=stop_at(step))
    seen: list[int] = []
    found = trained(tmp_path / "scratch", after_step=seen.append)
    assert seen == list(range(min(stops[-1], STEPS - 1) // 3 * 3 + 1, STEPS + 1)), "it resumes from the last checkpoint"
    assert as_bytes(found.network, tmp_path / "a") == as_bytes(undisturbed.network, tmp_path / "b")
    assert (found.history, found.chosen_step, found.tokens) == (
        undisturbed.history,
        undisturbed.chosen_step,
        undisturbed.tokens,
    )


@pytest.mark.parametrize("asked", [1, 4, 5, 11])
def test_stop_requested_it_keeps_a_checkpoint_of_that_very_step(tmp_path, undisturbed, asked):
    steps = iter(range(1, STEPS + 1))
    with pytest.raises(StoppedError, match=f"after step {asked} of 12; run again to go on"):
        trained(tmp_path / "scratch", stop_requested=lambda: next(steps) == asked)
    seen: list[int] = []
    found = trained(tmp_path / "scratch", after_step=seen.append)
    assert seen == list(range(asked + 1, STEPS + 1))
    assert as_bytes(found.network, tmp_path / "a") == as_bytes(undisturbed.network, tmp_path / "b")
    assert found.exact_resume


def test_stop_requested_in_its_last_step_it_ends_as_ever(tmp_path, undisturbed):
    steps = iter(range(1, STEPS + 1))
    assert weights_of(trained(tmp_path, stop_requested=lambda: next(steps) == STEPS).network) == weights_of(
        undisturbed.network
    )


def test_a_resumed_float16_training_keeps_its_scale(tmp_path):
    plan = replace(PLAN, precision="float16")
    whole = trained(tmp_path / "whole", plan)
    with pytest.raises(InterruptedHereError):
        trained(tmp_path / "scratch", plan, after_step=stop_at(7))
    assert weights_of(trained(tmp_path / "scratch", plan).network) == weights_of(whole.network)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_process_resumes_to_the_same_bytes(tmp_path, undisturbed):
    program = """
import os, signal, sys, torch
from pathlib import Path
torch.set_num_threads(1)
import test_training
test_training.trained(Path(sys.argv[1]), after_step=lambda step: step == 8 and os.kill(os.getpid(), signal.SIGKILL))
"""
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), *(path for path in sys.path if path)]
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    seen: list[int] = []
    found = trained(tmp_path, after_step=seen.append)
    assert seen[0] == 7
    assert as_bytes(found.network, tmp_path / "a") == as_bytes(undisturbed.network, tmp_path / "b")


def test_a_half_written_checkpoint_is_never_read(tmp_path, undisturbed, monkeypatch):
    """Cut between writing beside and renaming over: the old checkpoint is there, whole."""
    plain, renamed = Path.replace, []

    def replace_twice(self: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) == 3:
            self.write_bytes(self.read_bytes()[:100])
            raise InterruptedHereError
        return plain(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace_twice)
        with pytest.raises(InterruptedHereError):
            trained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"], "the second; nothing of the third"
    seen: list[int] = []
    found = trained(tmp_path, after_step=seen.append)
    assert seen[0] == 7
    assert weights_of(found.network) == weights_of(undisturbed.network)


def test_a_stale_half_of_a_first_checkpoint_is_ignored(tmp_path, undisturbed):
    (tmp_path / ".checkpoint.partial.safetensors").write_bytes(b"half")
    assert weights_of(trained(tmp_path).network) == weights_of(undisturbed.network)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.6, 0.999])
def test_a_checkpoint_with_a_flipped_byte_is_not_resumed_from(tmp_path, undisturbed, place):
    with pytest.raises(InterruptedHereError):
        trained(tmp_path, after_step=stop_at(7))
    file = tmp_path / "checkpoint.safetensors"
    whole = bytearray(file.read_bytes())
    whole[int(place * len(whole))] ^= 1
    file.write_bytes(whole)
    seen: list[int] = []
    found = trained(tmp_path, after_step=seen.append)
    assert seen[0] == 1
    assert weights_of(found.network) == weights_of(undisturbed.network)


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path, undisturbed):
    network = student()

    def poison(step: int) -> None:
        if step == 7:
            with torch.no_grad():
                network.embedding[1] = math.nan

    with pytest.raises(
        DistilscopeError,
        match=r"training loss is nan and its gradient's norm nan at step 8 of 12; lower training.learning_rate",
    ):
        train(network, PLAN, data=DATA, validation=VALIDATION, key=KEY, scratch=tmp_path, after_step=poison)
    assert weights_of(trained(tmp_path).network) == weights_of(undisturbed.network)


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_an_absurd_learning_rate_is_an_error_and_not_a_result(tmp_path, rate):
    with pytest.raises(DistilscopeError, match=r"norm (nan|inf).*lower training.learning_rate"):
        trained(tmp_path, replace(PLAN, learning_rate=rate))


def test_training_starts_from_the_network_it_is_given(tmp_path):
    """One step at rate r moves no weight by more than about r (Adam's first step)."""
    network = tiny_llama(7).requires_grad_(True)
    before = [weight.detach().clone() for weight in network.parameters()]
    plan = Training(
        epochs=1,
        batch_sequences=64,
        learning_rate=1e-3,
        warmup_fraction=0.0,
        decay_fraction=0.0,
        precision="float32",
        evaluations=1,
    )
    found = train(network, plan, data=DATA, validation=VALIDATION, key=KEY, scratch=tmp_path)
    assert found.network is network
    moved = [float((after.detach() - old).abs().max()) for after, old in zip(network.parameters(), before, strict=True)]
    assert 0.5e-3 < max(moved) <= 1.01e-3
