"""Reads a GGUF file: de-quantises its weights to fp32 and rebuilds its tokenizer, as a Hugging Face folder.

Only what is known to come out the same is converted: the llama architecture with a byte-level BPE tokenizer
whose way of splitting text is listed here. Anything else is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from distilscope.errors import UsageError, one_line, shown
from distilscope.lm.models.gguf_header import require_sound_header
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.models.model_folder import write_model

_PRE_TOKENIZERS = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    ),
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
}
_CONTROL = 3  # GGUF's token type for special tokens

_WEIGHTS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_WEIGHTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(path: Path, folder: Path) -> None:
    """Writes the model in `path` to `folder`; raises UsageError where the file is not one this can read."""
    try:
        require_sound_header(path)
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise UsageError(f"{path} is not a whole GGUF file ({one_line(error)}); fetch it again") from None
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise UsageError(
            f"{path} holds a GGUF model of architecture {shown(architecture)}, but only 'llama' is read; give a "
            "Hugging Face folder of it"
        )
    scaling = fields.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise UsageError(
            f"{path} scales its rotary embedding ({shown(scaling)}), which is not read; give a Hugging Face folder of "
            "the model"
        )
    try:
        config = _config(fields, tied="output.weight" not in {tensor.name for tensor in reader.tensors})
        weights = _weights(reader, config, path)
        tokenizer, stop = _tokenizer(fields, path), fields["tokenizer.ggml.eos_token_id"]
    except KeyError as error:
        raise UsageError(
            f"{path} lacks {error}, which a llama model needs; fetch it again or give a Hugging Face folder"
        ) from None
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # values of other types and sizes than a model has; `tokenizers` raises nothing more specific
        raise UsageError(f"{path} says of its model what cannot be ({one_line(error)}); fetch it again") from None
    if not (isinstance(stop, int) and 0 <= stop < config.vocab_size):
        raise UsageError(
            f"{path} says that token {shown(stop)} ends a sequence, but it has only {config.vocab_size} tokens; fetch "
            "it again"
        )
    template = fields.get("tokenizer.chat_template")
    settings = {"eos_token": fields["tokenizer.ggml.tokens"][stop]} | ({"chat_template": template} if template else {})
    write_model(
        folder, config, weights, stopping=frozenset([int(stop)]), tokenizer=tokenizer, tokenizer_config=settings
    )


def _config(fields: dict[str, Any], *, tied: bool) -> LlamaConfig:
    hidden, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    return LlamaConfig(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=hidden,
        intermediate_size=fields["llama.feed_forward_length"],
        num_layers=fields["llama.block_count"],
        num_heads=heads,
        num_kv_heads=fields.get("llama.attention.head_count_kv", heads),
        head_dim=fields.get("llama.attention.key_length", hidden // heads),
        context=fields["llama.context_length"],
        rope_theta=fields.get("llama.rope.freq_base", 10_000.0),
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        tied=tied,
    )


def _weights(reader: GGUFReader, config: LlamaConfig, path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        top, *place = tensor.name.removesuffix(".weight").split(".")
        if top in _WEIGHTS and not place:
            name, heads = _WEIGHTS[top], None
        elif top == "blk" and len(place) == 2 and place[1] in _LAYER_WEIGHTS:
            name = f"model.layers.{place[0]}.{_LAYER_WEIGHTS[place[1]]}"
            heads = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads}.get(place[1])
        else:
            raise UsageError(
                f"{path} has a tensor {shown(tensor.name)} that a plain llama model has not; give a Hugging Face "
                "folder of it"
            )
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if heads:  # GGUF interleaves the two halves that the rotary embedding turns; Hugging Face keeps them apart
            values = values.reshape(heads, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        weights[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(values))
    return weights


def _tokenizer(fields: dict[str, Any], path: Path) -> str:
    kind, splitting = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or splitting not in _PRE_TOKENIZERS:
        raise UsageError(
            f"{path} has a tokenizer {shown(kind)} that splits text as {shown(splitting)}, but only byte-level BPE "
            "that splits as "
            f"{' or '.join(sorted(_PRE_TOKENIZERS))} is read; give a Hugging Face folder of the model"
        )
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[splitting]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ == _CONTROL
        ]
    )
    return tokenizer.to_str()
