"""The Llama architecture (SmolLM2's), written for drawing, scoring and training without padding.

Three uses share one set of weights: `hidden` runs whole sequences laid end to end (only attention sees a padded view),
`LlamaDecoder` runs one token per slot against a key-value cache, and training differentiates the first. Weights are
read and written under Hugging Face's names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from distilscope.distribution import Key
from distilscope.errors import UsageError, one_line
from distilscope.lm.device import send
from distilscope.lm.kernels.attention import PaddedView, attend, rounded_up
from distilscope.lm.kernels.kv_cache_attention import CachedAttention
from distilscope.lm.kernels.onednn_weights import linear, reordered, with_spare_rows
from distilscope.lm.kernels.rms_norm import add_and_norm, rms_norm
from distilscope.lm.kernels.rotary import rotated
from distilscope.lm.kernels.swiglu import swiglu
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.models.model_folder import read_config, read_weights, write_model
from distilscope.lm.network import PIECE, Next
from distilscope.lm.sequences import Prompts, Sequences
from distilscope.lm.shared_prefixes import Prefixes, distinct


class _Block(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        d, heads = config.hidden_size, config.num_heads + 2 * config.num_kv_heads
        self.input_norm = nn.Parameter(torch.ones(d))
        self.qkv = nn.Parameter(torch.empty(heads * config.head_dim, d))
        self.output = nn.Parameter(torch.empty(d, config.num_heads * config.head_dim))
        self.post_norm = nn.Parameter(torch.ones(d))
        self.gate_up = nn.Parameter(torch.empty(2 * config.intermediate_size, d))
        self.down = nn.Parameter(torch.empty(d, config.intermediate_size))

    def heads(self, normed: Tensor) -> Float[Tensor, "t h d"]:
        """Queries, keys and values, one after another."""
        return linear(normed, self.qkv).unflatten(-1, (-1, self.config.head_dim))

    def project(self, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (t, heads, d), keys and values (t, kv_heads, d); queries and keys rotated."""
        return rotated(self.heads(normed), cos, sin, self.config.num_kv_heads)

    def finish(self, x: Tensor, attended: Float[Tensor, "t hd"], gain: Float[Tensor, " d"]) -> tuple[Tensor, Tensor]:
        """Adds the attention's output and then the feed-forward network's to the residual stream; that, and its norm
        with the next gain."""
        eps = self.config.rms_norm_eps
        x, normed = add_and_norm(x, linear(attended, self.output), self.post_norm, eps)
        return add_and_norm(x, linear(swiglu(linear(normed, self.gate_up)), self.down), gain, eps)

    def reordered(self) -> _Block:
        """The same block with its matrices in oneDNN's layout, for inference only."""
        with torch.device("meta"):
            block = _Block(self.config)
        for name, weight in self.named_parameters():
            delattr(block, name)  # a plain attribute is found faster than a parameter
            setattr(block, name, reordered(weight) if weight.dim() == 2 else weight.detach())
        return block


_REORDERING = threading.Lock()
"""Held while a network's matrices are reordered: several threads may be the first to use it."""

GRAIN = 64
"""The number of rows of a matrix product is rounded up to a multiple of this: oneDNN compiles code for every new shape,
and fewer shapes trained on ragged sequences 1.1 to 1.5 times as fast. A product of fewer rows is left as it is."""

STEP_GRAIN = 32
"""The same for a decoding step."""


class Llama(nn.Module):
    """The network. Build it with `from_config` (fresh weights) or `from_hf` (given weights)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.blocks: Iterable[_Block] = nn.ModuleList(_Block(config) for _ in range(config.num_layers))  # type: ignore[assignment]
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        self.head = None if config.tied else nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        with torch.device("cpu"):
            frequencies = config.rope_theta ** (
                -torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
            )
            angles = torch.outer(torch.arange(config.context, dtype=torch.float32), frequencies).repeat(1, 2)
            signs = torch.tensor([-1.0, 1.0]).repeat_interleave(config.head_dim // 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin() * signs, persistent=False)

    @property
    def vocabulary(self) -> int:
        return self.config.vocab_size

    @property
    def _matrices(self) -> tuple[Iterable[_Block], Tensor]:
        """Blocks and head to multiply by: reordered unless the weights are being trained."""
        head = self.embedding if self.head is None else self.head
        return (self.blocks, head) if head.requires_grad else self.reordered

    @property
    def reordered(self) -> tuple[list[_Block], Tensor]:
        """Blocks and head in oneDNN's layout, made once, for a network whose weights stay as they are."""
        with _REORDERING:
            return self._reordered

    @cached_property
    def _reordered(self) -> tuple[list[_Block], Tensor]:
        head = self.embedding if self.head is None else self.head
        if head.requires_grad:
            raise ValueError("the matrices of a network in training cannot be reordered: its weights change")
        return [block.reordered() for block in self.blocks], reordered(with_spare_rows(head))

    def __getstate__(self) -> dict[str, Any]:
        """A copy reorders for itself: matrices in oneDNN's layout cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_reordered"}

    def frozen(self) -> Llama:
        """The network as it is now, for inference only, on the same weights in memory."""
        with torch.device("meta"):
            same = type(self)(self.config)
        same.load_state_dict(self.state_dict(), assign=True)
        return same.to(self.device).requires_grad_(False)

    @property
    def context(self) -> int:
        return self.config.context

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def reentrant(self) -> bool:
        return self.device.type == "cpu"

    def rotary(
        self, positions: Int[Tensor, " t"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
        return self.cos.index_select(0, positions).to(dtype), self.sin.index_select(0, positions).to(dtype)

    def hidden(
        self, ids: Int[Tensor, " n"], lengths: Sequence[int], prefixes: Prefixes | None = None
    ) -> Float[Tensor, "n d"]:
        """Final hidden states of sequences laid end to end, or of the first positions that end their distinct prefixes.

        At most `GRAIN` rows of ballast are computed, all at the end.
        """
        view, tokens = PaddedView(lengths, GRAIN, self.device, prefixes), len(ids)
        x = F.embedding(F.pad(ids, (0, view.ballast)), self.embedding)
        cos, sin = self.rotary(view.positions, x.dtype)

        def attended(_layer: int, block: _Block, normed: Tensor) -> Tensor:
            q, k, v = (view.pad(part) for part in block.project(normed, cos, sin))
            return view.flat(attend(q, k, v, view.mask))

        return self.through_layers(x, self._matrices[0], attended)[:tokens]

    def through_layers(
        self,
        x: Float[Tensor, "t d"],
        blocks: Iterable[_Block],
        attended: Callable[[int, _Block, Tensor], Float[Tensor, "t hd"]],
    ) -> Float[Tensor, "t d"]:
        """The last hidden states, normed; `attended` is what attention finds, given a layer's number, its block and its
        normed input."""
        gains = [*(block.input_norm for block in blocks), self.norm]
        normed = rms_norm(x, gains[0], self.config.rms_norm_eps)
        for layer, (block, gain) in enumerate(zip(blocks, gains[1:], strict=True)):
            x, normed = block.finish(x, attended(layer, block, normed), gain)
        return normed

    def scores(self, hidden: Float[Tensor, "t d"]) -> Float[Tensor, "t v"]:
        """Next-token logits in the number format of the product; what exponentiates them turns them to fp32 first."""
        return self._padded_scores(hidden)[: len(hidden)]

    def _padded_scores(self, hidden: Float[Tensor, "t d"]) -> Float[Tensor, "rows v"]:
        """The same and, below, rows that mean nothing, up to a multiple of `GRAIN`."""
        return self.times_head(F.pad(hidden, (0, 0, 0, rounded_up(len(hidden), GRAIN) - len(hidden))))

    def times_head(self, hidden: Float[Tensor, "t d"]) -> Float[Tensor, "t v"]:
        """The hidden states times the output matrix, without the columns of spare rows."""
        return linear(hidden, self._matrices[1])[:, : self.vocabulary]

    def predicting(self, batch: Sequences, *, shared: bool = False) -> Float[Tensor, "tokens d"]:
        """The hidden state that predicts each token of the batch, in order. If `shared` (for inference only), equal
        prefixes are computed once."""
        ids, lengths, prefixes = np.concatenate(batch.read()), batch.positions, batch.prefixes if shared else None
        hidden = self.hidden(
            send(ids if prefixes is None else ids[prefixes.first], self.device), lengths.tolist(), prefixes
        )
        position = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        predict = np.flatnonzero(position >= np.repeat(batch.contexts - 1, lengths))
        if prefixes is None and len(predict) == len(ids):
            return hidden
        return hidden.index_select(0, send(predict if prefixes is None else prefixes.of[predict], self.device))

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        for piece in self.predicting(batch, shared=True).split(PIECE):
            yield self.scores(piece)

    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> LlamaDecoder:
        return LlamaDecoder(self, prompts, slots, horizon)

    def training_logits(self, batch: Sequences) -> Float[Tensor, "rows v"]:
        return self._padded_scores(self.predicting(batch))

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype) -> Llama | None:
        """The network of a model folder, frozen; None where it is of another architecture."""
        config = LlamaConfig.from_hf(read_config(folder))
        return None if config is None else cls.from_hf(config, read_weights(folder), dtype)

    @classmethod
    def from_config(cls, config: LlamaConfig, key: Key) -> Llama:
        """Fresh weights as `transformers` initialises this architecture: N(0, initializer_range), gains 1."""
        network, random = cls(config), key.generator()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim() == 2:
                    drawn = random.standard_normal(tuple(parameter.shape), dtype=np.float32)
                    parameter.copy_(torch.from_numpy(drawn) * config.initializer_range)
        return network

    @classmethod
    def from_hf(cls, config: LlamaConfig, weights: Mapping[str, Tensor], dtype: torch.dtype) -> Llama:
        """Weights under Hugging Face's names, cast to `dtype`; frozen. A missing or misshapen one raises UsageError."""
        last = f"model.layers.{config.num_layers - 1}.input_layernorm.weight"
        if last not in weights:  # before as many layers are built as a configuration may say
            raise UsageError(f"the weights lack {last!r}, which this Llama model has; give a complete model folder")
        with torch.device("meta"):
            network = cls(config)
        state: dict[str, Tensor] = {}
        for ours, theirs in _hf_names(config).items():
            missing = [name for name in theirs if name not in weights]
            if missing:
                raise UsageError(
                    f"the weights lack {missing[0]!r}, which this Llama model has; give a complete model folder"
                )
            try:
                state[ours] = torch.cat([weights[name].to(dtype) for name in theirs])
            except RuntimeError as error:
                raise UsageError(
                    f"{theirs[0]!r} and its like do not fit together ({one_line(error)}); give a complete model folder"
                ) from None
        known = {name for theirs in _hf_names(config).values() for name in theirs} | (
            {"lm_head.weight"} if config.tied else set()
        )
        strange = sorted(name for name in weights if name not in known and not name.endswith("rotary_emb.inv_freq"))
        if strange:
            raise UsageError(
                f"the weights hold {strange[0]!r}, which a plain Llama model has not; give the folder of the model "
                "alone"
            )
        for name, expected in network.state_dict().items():
            if state[name].shape != expected.shape:
                raise UsageError(
                    f"{_hf_names(config)[name][0]!r} has shape {tuple(state[name].shape)}, "
                    f"but the configuration says {tuple(expected.shape)}; "
                    "give a model folder whose config.json belongs to its weights"
                )
        network.load_state_dict(state, assign=True)
        return network.requires_grad_(False)

    def to_hf(self) -> dict[str, Tensor]:
        """The weights under Hugging Face's names."""
        c = self.config
        heads = [c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.num_kv_heads * c.head_dim]
        weights: dict[str, Tensor] = {}
        for ours, theirs in _hf_names(c).items():
            weight = self.get_parameter(ours).detach()
            sizes = {1: [len(weight)], 2: [c.intermediate_size] * 2, 3: heads}[len(theirs)]
            weights |= {name: part.contiguous() for name, part in zip(theirs, weight.split(sizes), strict=True)}
        return weights

    def write(self, folder: Path, *, stopping: frozenset[int], tokenizer: str | None) -> None:
        """A model folder in Hugging Face's layout; `tokenizer` is the text of tokenizer.json."""
        write_model(folder, self.config, self.to_hf(), stopping=stopping, tokenizer=tokenizer)


def _hf_names(config: LlamaConfig) -> dict[str, tuple[str, ...]]:
    """Our parameters' names and those of the Hugging Face weights that each stacks."""
    names: dict[str, tuple[str, ...]] = {"embedding": ("model.embed_tokens.weight",), "norm": ("model.norm.weight",)}
    if not config.tied:
        names["head"] = ("lm_head.weight",)
    parts = {
        "input_norm": ("input_layernorm",),
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "output": ("self_attn.o_proj",),
        "post_norm": ("post_attention_layernorm",),
        "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
        "down": ("mlp.down_proj",),
    }
    for i in range(config.num_layers):
        names |= {
            f"blocks.{i}.{ours}": tuple(f"model.layers.{i}.{name}.weight" for name in theirs)
            for ours, theirs in parts.items()
        }
    return names


class LlamaDecoder:
    """One token per slot and step, against a key-value cache; slots begin again one by one.

    A prompt is read once for all slots that begin after it together. Its keys and values stay in a slot's cache, so
    that to begin again after the same prompt only moves the slot's position back. Slots that hold the same tokens pass
    through the network as one row until they differ.
    """

    restarts_one_by_one = True

    def __init__(self, network: Llama, prompts: Prompts, slots: int, horizon: int) -> None:
        c = network.config
        self.network, self.prompts = network, prompts
        self.blocks = network.reordered[0]
        self.lengths = np.array([len(prompt) for prompt in prompts])
        self.prompt_of = np.full(slots, -1)  # the prompt that each slot's cache begins with
        self.prompt_logits: dict[int, Tensor] = {}  # after the prompts of the latest `begin`
        # an id of the tokens that a slot holds, equal where they are: a slot that holds them, or -1, -2, ... for a
        # prompt alone
        self.content = np.zeros(slots, dtype=np.int64)
        self.position = np.zeros(slots, dtype=np.int64)
        self.longest = int(self.lengths.max()) + horizon - 1  # the last token drawn is not fed
        shape = (slots, c.num_kv_heads, 0, c.head_dim)
        self.keys, self.values = ([network.embedding.new_zeros(shape)] * c.num_layers for _ in range(2))
        self._make_room(int(self.lengths.max()))

    def begin(self, slots: Int[np.ndarray, " m"], prompts: Int[np.ndarray, " m"]) -> Next:
        logits: dict[int, Tensor] = {}
        of, first = distinct(prompts)
        for prompt in prompts[first].tolist():
            anew = slots[(prompts == prompt) & (self.prompt_of[slots] != prompt)]
            known = not len(anew) and prompt in self.prompt_logits
            logits[prompt] = self.prompt_logits[prompt] if known else self._read(prompt, anew)
        self.prompt_logits = logits
        self.prompt_of[slots], self.position[slots], self.content[slots] = prompts, self.lengths[prompts], -1 - prompts
        return torch.stack(list(logits.values())), of

    def _read(self, number: int, slots: Int[np.ndarray, " m"]) -> Float[Tensor, " v"]:
        """The logits after a prompt; its keys and values, computed by itself so that they depend on nothing else, go
        into these slots."""
        prompt = np.array(self.prompts[number])
        where, length = self.network.device, len(prompt)
        x = F.embedding(send(prompt, where), self.network.embedding)
        cos, sin = self.network.rotary(torch.arange(length, device=where), x.dtype)
        rows = send(slots, where)

        def attended(layer: int, block: _Block, normed: Tensor) -> Tensor:
            q, k, v = (part.transpose(0, 1) for part in block.project(normed, cos, sin))
            self.keys[layer][rows, :, :length], self.values[layer][rows, :, :length] = k, v
            return attend(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)

        return self.network.times_head(self.network.through_layers(x, self.blocks, attended)[-1:])[0]

    def _make_room(self, length: int) -> None:
        """Lengthens the caches to `length` positions and a quarter more; they are used whole, as a product would copy a
        part of one first."""
        room = min(self.longest, max(16, rounded_up(length + length // 4, 16)))
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = F.pad(old, (0, 0, 0, room - old.shape[2]))

    def step(self, slots: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> Next:
        where, position = self.network.device, self.position[slots]
        length = int(position.max()) + 1
        if length > self.keys[0].shape[2]:
            self._make_room(length)
        of, first = distinct(self.content[slots] * self.network.vocabulary + tokens)
        self.content[slots] = slots[first][of]
        rows = min(len(self.position), -(-len(first) // STEP_GRAIN) * STEP_GRAIN)
        fed = np.pad(first, (0, rows - len(first)), mode="edge")  # the last row is repeated
        x = F.embedding(send(tokens[fed], where), self.network.embedding)
        rotary = self.network.rotary(send(position[fed], where), x.dtype)
        attention = CachedAttention(slots[fed], position[fed], *rotary, room=self.keys[0].shape[2], also=(slots, of))

        def attended(layer: int, block: _Block, normed: Tensor) -> Tensor:
            return attention(block.heads(normed), self.keys[layer], self.values[layer])

        hidden = self.network.through_layers(x, self.blocks, attended)
        self.position[slots] += 1
        return self.network.times_head(hidden)[: len(first)], of
