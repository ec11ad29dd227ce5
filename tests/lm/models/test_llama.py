"""Against the implementation in `transformers`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.models.model_folder import write_model
from distilscope.lm.models.transformers_model import TransformersNetwork
from distilscope.lm.scoring import score
from distilscope.selectivity import UNCHANGED, Temperature, TopK
from fake_models import TINY, ragged, tiny_llama, to_transformers

SHAPES = {
    "tied, grouped queries": {},
    "untied": {"tied": False},
    "as many key-value heads": {"num_kv_heads": 4},
    "one key-value head": {"num_kv_heads": 1},
    "wide heads": {"head_dim": 10, "tied": False},
    # three layers as sharp as the others' two would magnify what float32 rounds to the bounds themselves
    "other constants": {
        "rope_theta": 100_000.0,
        "rms_norm_eps": 1e-2,
        "num_layers": 3,
        "vocab_size": 300,
        "initializer_range": 0.2,
    },
}
every_shape = pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
LENGTHS = [3, 9, 1, 5, 9, 2]


def network_of(changes: dict) -> Llama:
    network = tiny_llama(3, **changes)
    with torch.no_grad():  # gains away from 1, so that they count
        for name, weight in network.named_parameters():
            if weight.dim() == 1:
                weight.copy_(torch.linspace(0.5, 1.5, len(weight)) * (1.1 if "post" in name else 1.0))
    return network


def row_by_row(model, sequences) -> torch.Tensor:
    """Logits for every token of every sequence, one plain forward pass each."""
    context = len(sequences.prompts[0])
    with torch.inference_mode():
        return torch.cat(
            [
                model(torch.tensor([[*sequences.prompts[0], *row.tolist()]])).logits[0, context - 1 : -1]
                for row in sequences
            ]
        )


@every_shape
@pytest.mark.parametrize("prompt", [(1,), (2, 0, 4, 1)], ids=["prompt of one", "prompt of four"])
@pytest.mark.parametrize(
    "lengths", [LENGTHS, [4, 4, 4], [1], [4, 2, 2]], ids=["ragged", "equal", "single", "filling rows"]
)
def test_logits_are_those_of_transformers(changes, prompt, lengths):
    network = network_of(changes)
    sequences = ragged(lengths, network.vocabulary, prompt)
    with torch.inference_mode():
        ours = torch.cat(list(network.logits(sequences)))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, row_by_row(to_transformers(network), sequences), atol=1e-5, rtol=1e-5)


@every_shape
@pytest.mark.parametrize(
    "prompts", [((1,),), ((2, 0, 4, 1),), ((2, 0, 4, 1), (3,), (1, 2))], ids=["of one", "of four", "several"]
)
@torch.inference_mode()
def test_one_step_at_a_time_equals_the_whole(changes, prompts):
    """Slots at different positions, begun again at different times, after the same prompt or another, often alike; two
    end early."""
    network, horizon, slots = network_of(changes), 6, 7
    random = np.random.default_rng(0)
    decoder = network.decoder(prompts, slots, horizon)
    reference = to_transformers(network)
    made: list[list[int]] = [[] for _ in range(slots)]
    follows = np.arange(slots) % len(prompts)

    def expect(found, which):
        rows, of = found
        for i, logits in zip(which, rows[of], strict=True):
            expected = reference(torch.tensor([[*prompts[follows[i]], *made[i]]])).logits[0, -1]
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
            made[i].append(int(random.integers(2)))
        assert len(rows) == len({(follows[i], *made[i][:-1]) for i in which})

    expect(decoder.begin(np.arange(slots), follows), range(slots))
    for step in range(14):
        live = range(slots if step < 8 else slots - 2)
        again = np.array(
            [i for i in live if len(made[i]) == horizon or (step, i) in {(1, 0), (2, 0), (6, 2)}], dtype=int
        )
        if len(again):
            follows[again] = random.integers(len(prompts), size=len(again))
            for i in again:
                made[i].clear()
            expect(decoder.begin(again, follows[again]), again)
        expect(decoder.step(np.array(live), np.array([made[i][-1] for i in live])), live)


@every_shape
def test_weights_and_configuration_make_the_round_trip(changes, tmp_path):
    network = network_of(changes)
    assert LlamaConfig.from_hf(network.config.to_hf()) == network.config
    assert LlamaConfig.from_hf(transformers.LlamaConfig(**network.config.to_hf()).to_dict()) == network.config
    again = Llama.from_hf(network.config, network.to_hf(), torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not any(weight.requires_grad for weight in again.parameters())
    write_model(tmp_path, network.config, network.to_hf(), stopping=frozenset([0]), tokenizer=None)
    loaded, theirs = (
        Llama.from_folder(tmp_path, torch.float32),
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path),
    )
    sequences = ragged(LENGTHS, network.vocabulary)
    with torch.inference_mode():
        ours = torch.cat(list(loaded.logits(sequences)))
    torch.testing.assert_close(ours, row_by_row(theirs, sequences), atol=1e-5, rtol=1e-5)


@every_shape
def test_parameters_and_flops_by_counting(changes):
    config = replace(TINY, **changes)
    network = Llama(config)
    assert config.parameters == sum(weight.numel() for weight in network.parameters())
    assert config.parameters == sum(weight.numel() for weight in to_transformers(tiny_llama(**changes)).parameters())
    products = sum(w.numel() for name, w in network.named_parameters() if w.dim() == 2 and name != "embedding")
    products += 0 if network.head is not None else network.embedding.numel()
    assert config.flops_per_token == 2 * products


def test_fresh_weights():
    config = replace(TINY, vocab_size=400, hidden_size=64, head_dim=16, intermediate_size=200, initializer_range=0.03)
    network = Llama.from_config(config, Key(0))
    for name, weight in network.named_parameters():
        if weight.dim() == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
        else:
            assert float(weight.detach().std()) == pytest.approx(0.03, rel=0.05), name
            assert abs(float(weight.detach().mean())) < 5 * 0.03 / weight.numel() ** 0.5, name
            assert weight.requires_grad
    again, other = Llama.from_config(config, Key(0)), Llama.from_config(config, Key(1))
    assert torch.equal(again.embedding, network.embedding)
    assert not torch.equal(other.embedding, network.embedding)
    first, second = (block.qkv for block in network.blocks)
    assert not torch.equal(first, second)


PLAIN = TINY.to_hf()


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "gpt2"},
        {"model_type": "mistral"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4}},
        {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_parameters": None, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        {"quantization_config": {"quant_method": "gptq"}},
    ],
    ids=lambda changes: ", ".join(f"{name}={value}" for name, value in changes.items())[:60],
)
def test_what_is_not_this_architecture_is_left_to_the_general_path(changes):
    assert LlamaConfig.from_hf(PLAIN | changes) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rope_parameters": None, "rope_theta": 5e5}, {"rope_theta": 5e5}),
        ({"rope_parameters": {"rope_theta": 7e4}, "rope_theta": 1.0}, {"rope_theta": 7e4}),
        ({"rope_parameters": None, "rope_theta": None, "rope_scaling": None}, {"rope_theta": 10_000.0}),
        ({"num_key_value_heads": None}, {"num_kv_heads": 4}),
        ({"head_dim": None}, {"head_dim": 4}),
    ],
    ids=str,
)
def test_configurations_of_several_ages(changes, expected):
    assert LlamaConfig.from_hf(PLAIN | changes) == replace(TINY, **expected)


def test_heads_must_divide():
    with pytest.raises(UsageError, match="4 attention heads cannot share 3"):
        replace(TINY, num_kv_heads=3)


def test_missing_and_misshapen_weights_are_named():
    weights = tiny_llama().to_hf()
    with pytest.raises(UsageError, match=r"lack 'model\.norm\.weight'"):
        Llama.from_hf(TINY, {name: w for name, w in weights.items() if name != "model.norm.weight"}, torch.float32)
    with pytest.raises(UsageError, match=r"model\.embed_tokens\.weight.*\(5, 16\).*\(6, 16\)"):
        Llama.from_hf(replace(TINY, vocab_size=6), weights, torch.float32)


# --- other architectures, by the general path


def gpt2() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    model = gpt2()
    model.generation_config.eos_token_id = 0
    model.save_pretrained(base / "gpt2")
    llama = to_transformers(network_of({"vocab_size": 11, "tied": False}))
    llama.generation_config.eos_token_id = [0, 3]
    llama.save_pretrained(base / "llama")
    config = json.loads((base / "llama" / "config.json").read_text())
    (base / "biased").mkdir()
    for file in (base / "llama").iterdir():
        (base / "biased" / file.name).write_bytes(file.read_bytes())
    (base / "biased" / "config.json").write_text(
        json.dumps(config | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}})
    )
    return base


@pytest.mark.parametrize("name", ["gpt2", "llama", "biased"])
@pytest.mark.parametrize("prompt", [(1,), (5, 1, 7)], ids=["prompt of one", "prompt of three"])
def test_the_general_path_scores_as_a_plain_forward_pass(folders, name, prompt):
    network = TransformersNetwork.from_folder(folders / name, torch.float32)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders / name)
    sequences = ragged(LENGTHS * 3, 11, prompt)
    with torch.inference_mode():
        ours = torch.cat(list(network.logits(sequences)))
    plain = row_by_row(theirs, sequences)
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)
    scores, _ = score((network, UNCHANGED), sequences)
    targets = torch.from_numpy(sequences.ids.astype(np.int64))
    np.testing.assert_allclose(scores.log_prob, plain.log_softmax(-1).gather(-1, targets[:, None])[:, 0], atol=2e-5)
    assert (network.vocabulary, network.context) == (11, 32 if name == "gpt2" else 64)


@pytest.mark.parametrize("name", ["gpt2", "llama", "biased"])
@pytest.mark.parametrize("by", [UNCHANGED, Temperature(0.6), TopK(3)], ids=str)
def test_draws_of_a_loaded_folder_pass_both_gates(folders, name, by):
    model = CausalLM.from_folder(folders / name).select(by)
    assert isinstance(model.network, Llama) == (name == "llama")
    assert model.stopping == (frozenset([0]) if name == "gpt2" else frozenset([0, 3]))
    assert model.tokenizer is None
    lm = model.after((5, 1), horizon=10)
    draws = lm.sample(300, Key(0, (name,)))
    assert 0 < draws.ended.sum() < 300
    assert isinstance(lm.score(draws)[0].check(draws, dtype="float32", whose="x"), float)


def test_both_paths_draw_the_same(folders, monkeypatch):
    """A third of the slots at a time, in waves or one by one."""
    monkeypatch.setattr("distilscope.lm.causal_lm.SLOTS", 13)
    fast = CausalLM.from_folder(folders / "llama")
    general = replace(fast, network=TransformersNetwork.from_folder(folders / "llama", torch.float32))
    a, b = (lm.after((2, 4), horizon=8).sample(40, Key(1)) for lm in (fast, general))
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.ended, b.ended)
    np.testing.assert_allclose(a.log_prob, b.log_prob, atol=2e-5)


def test_a_model_that_transformers_does_not_know_is_named(folders, tmp_path):
    for file in (folders / "gpt2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UsageError, match="transformers cannot load"):
        CausalLM.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("prompt", "horizon", "says"),
    [
        ((), 4, "prompt is empty"),
        ((1, 5), 4, "token 5, outside the vocabulary of 5"),
        ((-1,), 4, "token -1, outside"),
        ((1,), 0, "horizon is 0"),
        ((1,), 64, "horizon of at most 63"),
        ((1, 2), 63, "horizon of at most 62"),
    ],
)
def test_prompts_and_horizons_that_cannot_be(prompt, horizon, says):
    with pytest.raises(UsageError, match=says):
        CausalLM(tiny_llama(), frozenset([0])).after(prompt, horizon=horizon)


def test_the_whole_context_can_be_used():
    lm = CausalLM(tiny_llama(context=12), frozenset()).after((1, 2), horizon=10)
    draws = lm.sample(5, Key(0))
    np.testing.assert_allclose(draws.log_prob, lm.score(draws)[0].log_prob, atol=1e-5)
