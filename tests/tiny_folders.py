"""Model folders and GGUF files made on the spot: a byte-level BPE and a small Llama."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from distilscope.lm.models.llama import Llama
from distilscope.lm.models.model_folder import write_model
from fake_models import tiny_llama

TEXT = """The teacher speaks and the student listens; the student repeats what the teacher said, and says less and less.
Precision rises while recall falls. There is nothing that the student there could not have heard:
the the the then there."""


@cache
def trained_bpe(merges: int = 63, end: str = "<|end|>") -> Tokenizer:
    """One stopping token (id 0), the 256 bytes (ids 1-256), then merges in order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=257 + merges,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    assert tokenizer.get_vocab_size() == 257 + merges
    return tokenizer


def small_llama(seed: int = 5, **changes: object) -> Llama:
    sizes = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "head_dim": 8,
        "rope_theta": 50_000.0,
        "rms_norm_eps": 1e-4,
    }
    return tiny_llama(seed, **(sizes | changes))


def write_small_folder(
    folder: Path, *, seed: int = 5, merges: int = 63, stopping: frozenset[int] = frozenset([0]), **changes: object
) -> Llama:
    tokenizer = trained_bpe(merges)
    network = small_llama(seed, **({"vocab_size": tokenizer.get_vocab_size()} | changes))
    write_model(folder, network.config, network.to_hf(), stopping=stopping, tokenizer=tokenizer.to_str())
    return network


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Queries and keys as llama.cpp's converter lays them out: the halves that the rotary embedding turns,
    interleaved."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    )


def gguf_tensors(network: Llama) -> dict[str, np.ndarray]:
    c, tensors = network.config, {}
    for name, weight in network.to_hf().items():
        values = weight.numpy().astype(np.float32)
        bare = name.removesuffix(".weight")
        if bare.startswith("model.layers."):
            _, _, layer, part = bare.split(".", 3)
            heads = {"self_attn.q_proj": c.num_heads, "self_attn.k_proj": c.num_kv_heads}.get(part)
            tensors[f"blk.{layer}.{GGUF_NAMES[part]}.weight"] = values if heads is None else permuted(values, heads)
        else:
            top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[bare]
            tensors[f"{top}.weight"] = values
    return tensors


def write_gguf(
    path: Path,
    network: Llama,
    *,
    architecture: str = "llama",
    quantised: gguf.GGMLQuantizationType | None = None,
    without: frozenset[str] = frozenset(),
    extra: dict[str, np.ndarray] | None = None,
    **changes: object,
) -> None:
    """A llama model as llama.cpp writes it; `without` leaves metadata or tensors out by name, `changes` puts other
    metadata in."""
    c, tokenizer = network.config, trained_bpe()
    document = tokenizer.get_vocab()
    tokens = sorted(document, key=document.get)
    merges = [" ".join(pair) for pair in _merges(tokenizer)]
    writer = gguf.GGUFWriter(path, architecture)
    fields = {
        "context_length": lambda: writer.add_context_length(c.context),
        "embedding_length": lambda: writer.add_embedding_length(c.hidden_size),
        "block_count": lambda: writer.add_block_count(c.num_layers),
        "feed_forward_length": lambda: writer.add_feed_forward_length(c.intermediate_size),
        "head_count": lambda: writer.add_head_count(c.num_heads),
        "head_count_kv": lambda: writer.add_head_count_kv(c.num_kv_heads),
        "rms_epsilon": lambda: writer.add_layer_norm_rms_eps(c.rms_norm_eps),
        "freq_base": lambda: writer.add_rope_freq_base(c.rope_theta),
        "model": lambda: writer.add_tokenizer_model(changes.get("model", "gpt2")),
        "pre": lambda: writer.add_tokenizer_pre(changes.get("pre", "gpt-2")),
        "tokens": lambda: writer.add_token_list(tokens),
        "token_type": lambda: writer.add_token_types([3] + [1] * (len(tokens) - 1)),
        "merges": lambda: writer.add_token_merges(merges),
        "eos": lambda: writer.add_eos_token_id(changes.get("eos", 0)),
    }
    for name, add in fields.items():
        if name not in without:
            add()
    if "scaling" in changes:
        writer.add_string(f"{architecture}.rope.scaling.type", changes["scaling"])
    for name, values in (gguf_tensors(network) | (extra or {})).items():
        if name in without:
            continue
        if quantised is not None and values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(values, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def logits_of(network, sequences) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat(list(network.logits(sequences)))
