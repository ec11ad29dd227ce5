"""Language models small enough to enumerate: tables of next-token probabilities, tiny Llamas, and their exact
values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from distilscope.distribution import Key
from distilscope.lm.causal_lm import CausalLM, PromptedLM
from distilscope.lm.models.llama import Llama
from distilscope.lm.models.llama_config import LlamaConfig
from distilscope.lm.network import PIECE, Next
from distilscope.lm.sequences import Prompts, Sequences
from distilscope.selectivity import Selectivity


@dataclass(frozen=True, eq=False)
class TableLM:
    """Next-token probabilities written out: `table[t, v]` follows token v at position t (the last t serves all later
    ones).

    Depending on the position, it shows a slot that was not taken back to the prompt when it began again.
    """

    table: np.ndarray
    restarts_one_by_one: bool = True
    context: int = 1000
    reentrant: bool = True
    pieces: list[int] = field(default_factory=list)
    """Rows of each piece of logits that was asked for."""
    widths: list[int] = field(default_factory=list)
    """Slots of each decoder that was made."""

    @property
    def vocabulary(self) -> int:
        return self.table.shape[-1]

    def log_probs(self, positions: np.ndarray, previous: np.ndarray) -> Tensor:
        return torch.from_numpy(self.table[np.minimum(positions, len(self.table) - 1), previous]).log().float()

    def logits(self, batch: Sequences) -> Iterator[Tensor]:
        previous = np.concatenate([read[-len(row) :] for read, row in zip(batch.read(), batch, strict=True)])
        positions = np.concatenate([np.arange(len(row)) for row in batch])
        for start in range(0, len(previous), PIECE):
            piece = self.log_probs(positions[start : start + PIECE], previous[start : start + PIECE])
            self.pieces.append(len(piece))
            yield piece

    def decoder(self, prompts: Prompts, slots: int, horizon: int) -> TableDecoder:
        self.widths.append(slots)
        return TableDecoder(self, prompts, slots, horizon)


class TableDecoder:
    def __init__(self, network: TableLM, prompts: Prompts, slots: int, horizon: int) -> None:
        self.network, self.prompts, self.horizon = network, prompts, horizon
        self.restarts_one_by_one = network.restarts_one_by_one
        self.positions = np.zeros(slots, dtype=np.int64)
        self.steps = 0

    def begin(self, slots: np.ndarray, prompts: np.ndarray) -> Next:
        self.positions[slots if self.restarts_one_by_one else slice(None)] = 1
        assert self.restarts_one_by_one or len(set(prompts.tolist())) == 1
        last = np.array([prompt[-1] for prompt in self.prompts])
        return self.network.log_probs(np.zeros(len(slots), dtype=np.int64), last[prompts]), np.arange(len(slots))

    def step(self, slots: np.ndarray, tokens: np.ndarray) -> Next:
        logits = self.network.log_probs(self.positions[slots], tokens)
        self.positions[slots] += 1
        self.steps += 1
        return logits, np.arange(len(slots))


def uniform_lm(vocabulary: int) -> TableLM:
    return TableLM(np.full((1, vocabulary, vocabulary), 1 / vocabulary))


def random_table(vocabulary: int, positions: int, seed: int, concentration: float = 0.7) -> TableLM:
    random = np.random.default_rng(seed)
    return TableLM(random.dirichlet(np.full(vocabulary, concentration), (positions, vocabulary)))


THREE = TableLM(
    np.array(
        [
            [[0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.25, 0.05, 0.7]],
            [[0.2, 0.3, 0.5], [0.4, 0.35, 0.25], [0.05, 0.15, 0.8]],
            [[0.2, 0.3, 0.5], [0.3, 0.1, 0.6], [0.55, 0.4, 0.05]],
        ]
    )
)
"""Three tokens, of which 0 ends a sequence."""


def three_tokens(horizon: int = 4) -> PromptedLM:
    return CausalLM(THREE, frozenset([0])).after((1,), horizon=horizon)


TINY = LlamaConfig(
    vocab_size=5,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    context=64,
    rope_theta=10_000.0,
    initializer_range=0.25,
)


def tiny_llama(seed: int = 0, **changes: object) -> Llama:
    """A random Llama, sharpened so that its next-token distributions differ from the uniform one and from each
    other."""
    network = Llama.from_config(replace(TINY, **changes), Key(seed, ("tiny",)))
    return network.requires_grad_(False)


def ragged(lengths: list[int], vocabulary: int, prompt: tuple[int, ...] = (1,), seed: int = 0) -> Sequences:
    """Random ids of the given lengths; every second sequence ended."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, sum(lengths)).astype(np.min_scalar_type(vocabulary - 1))
    return Sequences(ids, np.array(lengths, dtype=np.int32), np.arange(len(lengths)) % 2 == 0, (prompt,), vocabulary)


def pack(rows: list[tuple[int, ...]], ended: list[bool], prompt: tuple[int, ...], vocabulary: int) -> Sequences:
    ids = np.concatenate([np.array(row) for row in rows]).astype(np.min_scalar_type(vocabulary - 1))
    return Sequences(ids, np.array([len(row) for row in rows], dtype=np.int32), np.array(ended), (prompt,), vocabulary)


@dataclass(frozen=True, eq=False)
class Enumerated:
    """Every sequence of a distribution, ended or cut, with its exact log-probability in float64."""

    rows: list[tuple[int, ...]]
    ended: list[bool]
    log_prob: np.ndarray
    expected: list[list[float]]
    """Per sequence and position: E_v log q(v)."""
    variance: list[list[float]]

    @property
    def prob(self) -> np.ndarray:
        return np.exp(self.log_prob)

    @property
    def entropy(self) -> float:
        return -self.mean(self.log_prob)

    def mean(self, values: np.ndarray) -> float:
        """E of a value per sequence, with 0 * inf = 0."""
        return float((self.prob * np.where(self.prob > 0, values, 0.0))[self.prob > 0].sum())

    def index(self) -> dict[tuple[int, ...], int]:
        return {row: i for i, row in enumerate(self.rows)}


def enumerate_lm(lm: PromptedLM) -> Enumerated:
    """By depth-first search over prefixes; whole prefixes run through `transformers` for a Llama, through the table for
    a table.

    Shares with the code under test only the map that a selectivity is.
    """
    next_logits = _llama_logits(lm) if isinstance(lm.model.network, Llama) else _table_logits(lm)
    selectivity, stopping = lm.model.selectivity, lm.model.stopping
    found: list[tuple[tuple[int, ...], bool, float, list[float], list[float]]] = []

    def visit(prefix: tuple[int, ...], log_prob: float, expected: list[float], variance: list[float]) -> None:
        log_q = _log_softmax(next_logits(prefix), selectivity)
        q = np.exp(log_q)
        mean = float((q[q > 0] * log_q[q > 0]).sum())
        spread = float((q[q > 0] * (log_q[q > 0] - mean) ** 2).sum())
        for token, value in enumerate(log_q):
            row, moments = (*prefix, token), ([*expected, mean], [*variance, spread])
            if token in stopping or len(row) == lm.horizon:
                found.append((row, token in stopping, log_prob + float(value), *moments))
            else:
                visit(row, log_prob + float(value), *moments)

    visit((), 0.0, [], [])
    rows, ended, log_prob, expected, variance = zip(*found, strict=True)
    return Enumerated(list(rows), list(ended), np.array(log_prob), list(expected), list(variance))


def _log_softmax(logits: np.ndarray, selectivity: Selectivity) -> np.ndarray:
    return selectivity(torch.from_numpy(logits).double()).log_softmax(-1).numpy()


def _table_logits(lm: PromptedLM):
    table = lm.model.network.table
    return lambda prefix: np.log(table[min(len(prefix), len(table) - 1), (*lm.prompts[0], *prefix)[-1]])


def _llama_logits(lm: PromptedLM):
    model = to_transformers(lm.model.network)
    known: dict[tuple[int, ...], np.ndarray] = {}

    def logits(prefix: tuple[int, ...]) -> np.ndarray:
        if prefix not in known:
            with torch.inference_mode():
                known[prefix] = model(torch.tensor([[*lm.prompts[0], *prefix]])).logits[0, -1].double().numpy()
        return known[prefix]

    return logits


def to_transformers(network: Llama):
    """The same weights in `transformers`' own implementation."""
    import transformers

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**network.config.to_hf()))
    missing = model.load_state_dict(network.to_hf(), strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()
