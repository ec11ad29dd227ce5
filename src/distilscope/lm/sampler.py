"""Draws sequences: a tile is `draws` sequences through `slots` slots, a function of (network, key) alone.

Each draw has its own row of uniform numbers, one per position, and a token is the inverse of its cumulative
distribution at that number; so a draw does not depend on the slot that happened to make it, and two
models drawn from with one key are compared under common random numbers. The number of slots never changes within a tile:
CPU matrix products differ in the last bit between row counts.
"""

from __future__ import annotations

import math
from collections.abc import Set

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.distribution import Key
from distilscope.lm.hardware import fetch, send
from distilscope.lm.network import Network, in_pieces
from distilscope.lm.sequences import Prompts, Sequences, id_dtype
from distilscope.selectivity import Selectivity


@torch.inference_mode()
def draw(
    network: Network,
    *,
    prompts: Prompts,
    prompt_of: Int[np.ndarray, " draws"],
    horizon: int,
    stopping: Set[int],
    selectivity: Selectivity,
    slots: int,
    key: Key,
) -> Sequences:
    """A sequence of at most `horizon` tokens after each prompt named in `prompt_of`, each token's log-probability recorded (nats)."""
    draws = len(prompt_of)
    slots = min(slots, draws)
    uniforms = key.generator().random((draws, horizon))
    ids = np.zeros((draws, horizon), dtype=id_dtype(network.vocabulary))
    recorded = np.zeros((draws, horizon), dtype=np.float32)
    lengths, ended = np.zeros(draws, dtype=np.int32), np.zeros(draws, dtype=bool)
    stops = np.array(sorted(stopping), dtype=np.int64)

    decoder = network.decoder(prompts, slots, horizon)
    last = np.array([prompt[-1] for prompt in prompts])
    making, at = np.full(slots, -1), np.zeros(slots, dtype=np.int64)  # which draw each slot makes, and its length so far
    tokens, waiting = np.full(slots, last[0]), 0
    order = np.argsort(prompt_of, kind="stable")  # draws after one prompt begin together, for they share its keys and values
    while True:
        free = making < 0
        if waiting < draws and free.any() and (decoder.restarts_one_by_one or free.all()):
            coming = order[waiting:]
            if not decoder.restarts_one_by_one:  # a wave follows one prompt
                coming = coming[prompt_of[coming] == prompt_of[coming[0]]]
            begins = np.flatnonzero(free)[: len(coming)]
            coming = coming[: len(begins)]
            making[begins], at[begins], tokens[begins] = coming, 0, last[prompt_of[coming]]
            waiting += len(begins)
            decoder.begin(begins, prompt_of[coming])
        live = np.flatnonzero(making >= 0)
        if not len(live):
            break
        logits = decoder.step(tokens)
        rows, columns = making[live], at[live]
        drawn, log_prob = next_tokens(
            logits if len(live) == slots else logits.index_select(0, send(live, logits.device)), uniforms[rows, columns], selectivity
        )
        ids[rows, columns], recorded[rows, columns] = drawn, log_prob
        stopped = np.isin(drawn, stops)
        at[live] += 1
        tokens[live] = drawn
        done = stopped | (at[live] == horizon)
        lengths[rows[done]], ended[rows[done]] = at[live[done]], stopped[done]
        making[live[done]] = -1
    kept = np.arange(horizon) < lengths[:, None]
    return Sequences(ids[kept], lengths, ended, prompts, network.vocabulary, recorded[kept], prompt_of.astype(np.int32))


def in_turn(first: int, draws: int, prompts: int) -> Int[np.ndarray, " draws"]:
    """Which prompt each of the draws `first`, `first` + 1, ... follows: the prompts in turn, so that any few draws follow all alike."""
    return (first + np.arange(draws)) % prompts


def next_tokens(
    logits: Float[Tensor, "n v"], uniforms: Float[np.ndarray, " n"], selectivity: Selectivity
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """One token per row, by inversion, and its log-probability (nats)."""
    found, start = [], 0
    for piece in in_pieces(logits):
        found.append(invert_cdf(selectivity(piece), send(uniforms[start : start + len(piece)], logits.device)))
        start += len(piece)
    drawn, log_prob = (np.concatenate(part) for part in zip(*found, strict=True))
    return drawn, log_prob


def invert_cdf(logits: Float[Tensor, "n v"], uniforms: Float[Tensor, " n"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The token at which each row's cumulative distribution passes its uniform number, and its log-probability.

    Sums run in two levels, the upper one in double precision: first the block of tokens, then the token within
    it. A token of probability zero is never drawn.
    """
    probs = logits.softmax(-1)
    width = 2 ** math.ceil(math.log2(max(2, probs.shape[-1])) / 2)
    missing = -probs.shape[-1] % width
    blocks = (torch.nn.functional.pad(probs, (0, missing)) if missing else probs).unflatten(-1, (-1, width))
    rows = torch.arange(len(probs), device=probs.device)
    sums = blocks.sum(-1, dtype=torch.float32).double().cumsum(-1)
    target = uniforms.double() * sums[:, -1]
    block = _first_above(sums, target)
    before = torch.where(block > 0, sums[rows, (block - 1).clamp(min=0)], 0.0)
    inside = blocks[rows, block].double().cumsum(-1)
    token = block * width + _first_above(inside, target - before)
    return fetch(token), fetch(probs[rows, token].log())


def _first_above(cumulative: Float[Tensor, "n m"], target: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The first index whose cumulative sum exceeds the target, at most the last index that adds anything."""
    last = (cumulative < cumulative[:, -1:]).sum(-1)
    return torch.minimum((cumulative <= target[:, None]).sum(-1), last)
