import gguf
import numpy as np
import pytest
import torch

from distilscope.errors import UsageError
from distilscope.lm.causal_lm import CausalLM
from distilscope.lm.models.gguf import convert
from fake_models import ragged, to_transformers
from tiny_folders import TEXT, gguf_tensors, logits_of, permuted, small_llama, trained_bpe, write_gguf

SEQUENCES = ragged([5, 9, 2], 320, (84, 7))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.gguf"


@pytest.mark.parametrize(
    "changes",
    [{}, {"tied": False}, {"num_kv_heads": 4}, {"num_kv_heads": 1, "num_layers": 1}],
    ids=["tied, grouped queries", "untied", "as many key-value heads", "one key-value head"],
)
def test_full_precision_comes_back_exactly(path, tmp_path, changes):
    network = small_llama(**changes)
    write_gguf(path, network)
    convert(path, tmp_path / "folder")
    model = CausalLM.from_folder(tmp_path / "folder")
    assert model.network.config.tied == network.config.tied
    for name, weight in model.network.to_hf().items():
        assert torch.equal(weight, network.to_hf()[name]), name
    np.testing.assert_allclose(logits_of(model.network, SEQUENCES), logits_of(network, SEQUENCES), atol=1e-5)
    theirs = to_transformers(network)
    with torch.inference_mode():
        row = next(iter(SEQUENCES)).astype(int).tolist()
        plain = theirs(torch.tensor([[*SEQUENCES.prompts[0], *row]])).logits[0, 1:-1]
    np.testing.assert_allclose(logits_of(model.network, SEQUENCES)[: len(row)], plain, atol=1e-5)


def test_the_permutation_matters():
    """Else the test above could not tell."""
    weight = np.arange(8.0)[:, None]
    assert permuted(weight, 1)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert not np.array_equal(
        gguf_tensors(small_llama())["blk.0.attn_q.weight"],
        small_llama().to_hf()["model.layers.0.self_attn.q_proj.weight"],
    )


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.01), ("Q4_1", 0.1), ("F16", 1e-3), ("BF16", 5e-3)])
def test_quantised_weights_come_back_as_what_they_stand_for(path, tmp_path, kind, error):
    network, kind = small_llama(), getattr(gguf.GGMLQuantizationType, kind)
    write_gguf(path, network, quantised=kind)
    convert(path, tmp_path / "folder")
    found, whole = CausalLM.from_folder(tmp_path / "folder").network.to_hf(), network.to_hf()
    for name, weight in whole.items():
        assert found[name].dtype == torch.float32
        scale = float(weight.abs().max())
        np.testing.assert_allclose(found[name], weight, atol=0 if weight.dim() == 1 else error * scale, err_msg=name)
    back = gguf.quants.dequantize(gguf.quants.quantize(whole["model.layers.1.mlp.up_proj.weight"].numpy(), kind), kind)
    np.testing.assert_array_equal(found["model.layers.1.mlp.up_proj.weight"], back)


def test_the_tokenizer_comes_back(path, tmp_path):
    write_gguf(path, small_llama())
    convert(path, tmp_path / "folder")
    model = CausalLM.from_folder(tmp_path / "folder")
    for text in (TEXT, "naïve β", "<|end|> the"):
        assert model.encode(text) == tuple(trained_bpe().encode(text, add_special_tokens=False).ids)
    assert model.stopping == frozenset([0])
    assert model.encode("<|end|>") == (0,)


def test_digits_stand_alone_where_the_file_says_so(path, tmp_path):
    write_gguf(path, small_llama(), pre="smollm")
    convert(path, tmp_path / "folder")
    assert [
        piece for piece, _ in CausalLM.from_folder(tmp_path / "folder").tokenizer.pre_tokenizer.pre_tokenize_str("12")
    ] == ["1", "2"]


BIAS = {"blk.0.attn_q.bias": np.zeros(32, np.float32)}
EXPERTS = {"blk.0.ffn_gate_inp.weight": np.zeros((4, 32), np.float32)}
FREQUENCIES = {"rope_freqs.weight": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": "qwen2"}, "architecture 'qwen2'"),
        ({"pre": "llama-bpe"}, "splits text as 'llama-bpe'"),
        ({"model": "llama"}, "tokenizer 'llama'"),
        ({"without": frozenset(["tokens"])}, "lacks 'tokenizer.ggml.tokens'"),
        ({"without": frozenset(["merges"])}, "lacks 'tokenizer.ggml.merges'"),
        ({"without": frozenset(["eos"])}, "lacks 'tokenizer.ggml.eos_token_id'"),
        ({"without": frozenset(["head_count"])}, "lacks 'llama.attention.head_count'"),
        ({"without": frozenset(["rms_epsilon"])}, "lacks 'llama.attention.layer_norm_rms_epsilon'"),
        ({"eos": 9999}, "9999"),
        ({"extra": BIAS}, r"blk\.0\.attn_q\.bias"),
        ({"extra": EXPERTS}, r"blk\.0\.ffn_gate_inp\.weight"),
        ({"extra": FREQUENCIES}, r"rope_freqs\.weight"),
        ({"scaling": "yarn"}, "yarn"),
    ],
    ids=str,
)
def test_what_would_not_come_out_the_same_is_refused_by_name(path, tmp_path, options, says):
    write_gguf(path, small_llama(), **options)
    with pytest.raises(UsageError, match=says) as caught:
        convert(path, tmp_path / "folder")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("part", [0, 3, 30, 0.01, 0.1, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused_by_name(path, tmp_path, part):
    write_gguf(path, small_llama())
    whole = path.read_bytes()
    path.write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])
    with pytest.raises(UsageError, match=r"model\.gguf"):
        convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    "content", [b"hello", b"\0" * 4096, b"GGUF" + b"\xff" * 4096], ids=["text", "zeros", "only the magic"]
)
def test_another_file_is_refused_by_name(path, tmp_path, content):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.gguf"):
        convert(path, tmp_path / "folder")


def test_a_missing_tensor_is_refused_on_loading(path, tmp_path):
    write_gguf(path, small_llama(), without=frozenset(["blk.1.ffn_up.weight"]))
    convert(path, tmp_path / "folder")
    with pytest.raises(UsageError, match=r"lack 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        CausalLM.from_folder(tmp_path / "folder")
