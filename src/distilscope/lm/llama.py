"""The Llama architecture (SmolLM2's), written for drawing, scoring and training without padding.

Three uses share one set of weights: `hidden` runs whole sequences laid end to end (only attention sees a
padded view), `LlamaDecoder` runs one token per slot against a preallocated key-value cache, and training
differentiates the first. Weights are read and written under Hugging Face's names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from distilscope.distribution import Key
from distilscope.errors import UsageError
from distilscope.lm.architecture import LlamaConfig
from distilscope.lm.network import PIECE, in_pieces
from distilscope.lm.sequences import Sequences


def _rotate(x: Float[Tensor, "t h d"], cos: Float[Tensor, "t d"], sin: Float[Tensor, "t d"]) -> Float[Tensor, "t h d"]:
    """Rotary position embedding (Su et al. 2104.09864), in the layout of halves; `sin` carries the minus of its first half."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos[:, None], torch.cat((right, left), dim=-1), sin[:, None])


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

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (t, heads, d), keys and values (t, kv_heads, d); queries and keys rotated."""
        c = self.config
        heads = F.linear(_norm(x, self.input_norm, c), self.qkv).unflatten(-1, (-1, c.head_dim))
        rotated = _rotate(heads[:, : c.num_heads + c.num_kv_heads], cos, sin)
        return rotated[:, : c.num_heads], rotated[:, c.num_heads :], heads[:, c.num_heads + c.num_kv_heads :]

    def finish(self, x: Tensor, attended: Float[Tensor, "t hd"]) -> Tensor:
        """Adds the attention's output and then the feed-forward network's to the residual stream."""
        x = x + F.linear(attended, self.output)
        gate, up = F.linear(_norm(x, self.post_norm, self.config), self.gate_up).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self.down)


def _norm(x: Tensor, gain: Tensor, config: LlamaConfig) -> Tensor:
    return F.rms_norm(x, (config.hidden_size,), gain, config.rms_norm_eps)


GRAIN = 64
"""Rows of a matrix product are rounded up to this: the CPU library prepares code for every new shape; fewer shapes trained on
ragged sequences 1.1 to 1.5 times as fast. A product of fewer rows is left as it is."""


def _rounded(rows: int, grain: int) -> int:
    return rows if rows < grain else -(-rows // grain) * grain


QUERIES = 64
"""Positions whose attention weights are written out at once, over the keys up to the last of them. On a CPU in bfloat16 that is 1.1 to 2
times as fast as the fused kernel at every length up to 512, and level with it in float32."""


def _attend(q: Float[Tensor, "b h l d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"]) -> Float[Tensor, "b h l d"]:
    """Causal attention, its softmax in fp32."""
    blocks = []
    for start in range(0, q.shape[-2], QUERIES):
        block = q[:, :, start : start + QUERIES]
        end = start + block.shape[-2]
        future = torch.full((end - start, end), -math.inf).triu(start + 1)
        blocks.append(_weigh(torch.matmul(block, k[:, :, :end].transpose(-1, -2)), v[:, :, :end], future))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-2)


def _weigh(products: Float[Tensor, "*b q l"], v: Float[Tensor, "*b l d"], bias: Float[Tensor, "..."]) -> Float[Tensor, "*b q d"]:
    """The values weighted by the softmax, in fp32, of scaled query-key products plus a bias of 0 or -inf."""
    weights = torch.add(bias, products, alpha=v.shape[-1] ** -0.5).softmax(-1)
    return torch.matmul(weights.to(v.dtype), v)


class _PaddedView:
    """Sequences laid end to end, seen as (batch, longest, ...) for attention alone, and back."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.batch, self.longest = len(lengths), _rounded(max(lengths), 16)
        self.positions = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))
        rows = torch.from_numpy(np.repeat(np.arange(self.batch), lengths))
        self.places = None if min(lengths) == self.longest else rows * self.longest + self.positions

    def pad(self, x: Float[Tensor, "t h d"]) -> Float[Tensor, "b h l d"]:
        if self.places is not None:
            x = x.new_zeros(self.batch * self.longest, *x.shape[1:]).index_copy(0, self.places, x)
        return x.unflatten(0, (self.batch, self.longest)).transpose(1, 2)

    def flat(self, x: Float[Tensor, "b h l d"]) -> Float[Tensor, "t hd"]:
        x = x.transpose(1, 2).flatten(2).flatten(0, 1)
        return x if self.places is None else x[self.places]


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
            frequencies = config.rope_theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
            angles = torch.outer(torch.arange(config.context, dtype=torch.float32), frequencies).repeat(1, 2)
            signs = torch.tensor([-1.0, 1.0]).repeat_interleave(config.head_dim // 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin() * signs, persistent=False)

    @property
    def vocabulary(self) -> int:
        return self.config.vocab_size

    @property
    def context(self) -> int:
        return self.config.context

    def rotary(self, positions: Int[Tensor, " t"], dtype: torch.dtype) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t d"]]:
        return self.cos[positions].to(dtype), self.sin[positions].to(dtype)

    def hidden(self, ids: Int[Tensor, " t"], lengths: Sequence[int]) -> Float[Tensor, "t d"]:
        """Final hidden states of sequences laid end to end; at most `GRAIN` - 1 tokens of padding are computed, all at the end."""
        view, shared = _PaddedView(lengths), self.config.num_heads // self.config.num_kv_heads
        tokens, more = len(ids), _rounded(len(ids), GRAIN) - len(ids)
        x = F.embedding(F.pad(ids, (0, more)), self.embedding)
        cos, sin = self.rotary(F.pad(view.positions, (0, more)), x.dtype)
        for block in self.blocks:
            q, k, v = (part[:tokens] for part in block.project(x, cos, sin))
            k, v = (view.pad(part).repeat_interleave(shared, dim=1) for part in (k, v))
            x = block.finish(x, F.pad(view.flat(_attend(view.pad(q), k, v)), (0, 0, 0, more)))
        return _norm(x, self.norm, self.config)[:tokens]

    def scores(self, hidden: Float[Tensor, "t d"]) -> Float[Tensor, "t v"]:
        """Next-token logits in the number format of the product; what exponentiates them turns them to fp32 first."""
        rows = len(hidden)
        hidden = F.pad(hidden, (0, 0, 0, _rounded(rows, GRAIN) - rows))
        return F.linear(hidden, self.embedding if self.head is None else self.head)[:rows]

    def predicting(self, batch: Sequences) -> Float[Tensor, "tokens d"]:
        """The hidden state that predicts each token of the batch, in order."""
        context, lengths = len(batch.prompt), batch.lengths + len(batch.prompt) - 1
        ids = np.concatenate([np.concatenate([batch.prompt, row[:-1]]) for row in batch]).astype(np.int64)
        hidden = self.hidden(torch.from_numpy(ids), lengths.tolist())
        if context == 1:
            return hidden
        position = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return hidden[torch.from_numpy(position >= context - 1)]

    def logits(self, batch: Sequences) -> Iterator[Float[Tensor, "piece v"]]:
        for piece in self.predicting(batch).split(PIECE):
            yield from in_pieces(self.scores(piece))

    def decoder(self, prompt: tuple[int, ...], slots: int, horizon: int) -> LlamaDecoder:
        return LlamaDecoder(self, prompt, slots, horizon)

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
        network = cls(config)
        state: dict[str, Tensor] = {}
        for ours, theirs in _hf_names(config).items():
            missing = [name for name in theirs if name not in weights]
            if missing:
                raise UsageError(f"the weights lack {missing[0]!r}, which this Llama model has; give a complete model folder")
            state[ours] = torch.cat([weights[name].to(dtype) for name in theirs])
        known = {name for theirs in _hf_names(config).values() for name in theirs} | ({"lm_head.weight"} if config.tied else set())
        strange = sorted(name for name in weights if name not in known and not name.endswith("rotary_emb.inv_freq"))
        if strange:
            raise UsageError(f"the weights hold {strange[0]!r}, which a plain Llama model has not; give the folder of the model alone")
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
        names |= {f"blocks.{i}.{ours}": tuple(f"model.layers.{i}.{name}.weight" for name in theirs) for ours, theirs in parts.items()}
    return names


class LlamaDecoder:
    """One token per slot and step, against a preallocated key-value cache; slots begin again one by one.

    The prompt's keys and values (all but its last token's) are computed once and stay in place, so
    that beginning again only moves a slot's position back.
    """

    restarts_one_by_one = True

    def __init__(self, network: Llama, prompt: tuple[int, ...], slots: int, horizon: int) -> None:
        c = network.config
        self.network, self.first = network, len(prompt) - 1
        self.position = torch.full((slots,), self.first)
        self.rows = torch.arange(slots)
        self.columns = torch.arange(self.first + horizon)
        shape = (slots, c.num_kv_heads, 0, c.head_dim)
        self.keys, self.values = ([torch.zeros(shape, dtype=network.embedding.dtype)] * c.num_layers for _ in range(2))
        self._make_room(self.first)
        if self.first:
            self._remember(torch.tensor(prompt[:-1]))

    def _remember(self, ids: Int[Tensor, " p"]) -> None:
        x = F.embedding(ids, self.network.embedding)
        cos, sin = self.network.rotary(torch.arange(len(ids)), x.dtype)
        shared = self.network.config.num_heads // self.network.config.num_kv_heads
        for layer, block in enumerate(self.network.blocks):
            q, k, v = (part.transpose(0, 1) for part in block.project(x, cos, sin))
            self.keys[layer][:, :, : len(ids)], self.values[layer][:, :, : len(ids)] = k, v
            k, v = k.repeat_interleave(shared, dim=0), v.repeat_interleave(shared, dim=0)
            attended = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
            x = block.finish(x, attended.transpose(0, 1).flatten(1))

    def begin(self, slots: Bool[Tensor, " slots"]) -> None:
        self.position[slots] = self.first

    def _make_room(self, length: int) -> None:
        """Lengthens the cache to `length` columns and some to spare; always used whole, as a product would copy a part of it first."""
        room = min(len(self.columns), _rounded(length + length // 4, 16))
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = F.pad(old, (0, 0, 0, room - old.shape[2]))

    def step(self, tokens: Int[Tensor, " slots"]) -> Float[Tensor, "slots v"]:
        c, length = self.network.config, int(self.position.max()) + 1
        if length > self.keys[0].shape[2]:
            self._make_room(length)
        x = F.embedding(tokens, self.network.embedding)
        cos, sin = self.network.rotary(self.position, x.dtype)
        unseen = self.columns[: self.keys[0].shape[2]] > self.position[:, None]
        bias = torch.zeros(unseen.shape).masked_fill_(unseen, -math.inf)[:, None, None]
        for block, keys, values in zip(self.network.blocks, self.keys, self.values, strict=True):
            q, k, v = block.project(x, cos, sin)
            keys[self.rows, :, self.position], values[self.rows, :, self.position] = k, v
            # queries that share a key-value head stand together, so that neither is ever repeated in memory
            products = torch.matmul(q.unflatten(1, (c.num_kv_heads, -1)), keys.transpose(-1, -2))
            x = block.finish(x, _weigh(products, values, bias).flatten(1))
        self.position = (self.position + 1).clamp_(max=len(self.columns) - 1)
        return self.network.scores(_norm(x, self.network.norm, c))
