"""The sampler that draws by a network's own `Decoder`: a tile is `draws` sequences through `slots` slots.

Each draw has its own row of uniform numbers, one per position, and a token is the inverse of its cumulative
distribution at that number. So a draw does not depend on the slot that happened to make it, and two models that are
drawn from with the same key are compared under common random numbers.

A tile is a function of (network, key, slots): CPU matrix products differ in the last bit between row counts, and how
many rows a step has follows from the number of slots and the tile's own draws.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from distilscope.distribution import Key
from distilscope.lm.kernels.inverse_cdf import invert_cdf
from distilscope.lm.kernels.tensor_arrays import fits, in_rows
from distilscope.lm.network import Network, in_pieces
from distilscope.lm.sequences import Prompts, Sequences, id_dtype
from distilscope.selectivity import UNCHANGED, Selectivity
from distilscope.system.thread_pool import raise_if_abandoned


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
    """A sequence of at most `horizon` tokens after each prompt named in `prompt_of`, each token's log-probability
    recorded (nats)."""
    draws = len(prompt_of)
    slots = min(slots, draws)
    uniforms = key.generator().random((draws, horizon))
    ids = np.zeros((draws, horizon), dtype=id_dtype(network.vocabulary))
    recorded = np.zeros((draws, horizon), dtype=np.float32)
    lengths, ended = np.zeros(draws, dtype=np.int32), np.zeros(draws, dtype=bool)
    stops = np.array(sorted(stopping), dtype=np.int64)

    decoder = network.decoder(prompts, slots, horizon)
    draw_of, at = (
        np.full(slots, -1),
        np.zeros(slots, dtype=np.int64),
    )  # each slot's draw (-1: free) and its length so far
    tokens, begun = np.zeros(slots, dtype=np.int64), 0
    order = np.argsort(
        prompt_of, kind="stable"
    )  # draws after one prompt begin together: they share its keys and values
    while True:
        raise_if_abandoned()
        free = draw_of < 0
        if begun < draws and free.any() and (decoder.restarts_one_by_one or free.all()):
            coming = order[begun:]
            if not decoder.restarts_one_by_one:  # a wave follows one prompt
                coming = coming[prompt_of[coming] == prompt_of[coming[0]]]
            live = np.flatnonzero(free)[: len(coming)]
            coming = coming[: len(live)]
            draw_of[live], at[live] = coming, 0
            begun += len(live)
            logits, of_logits = decoder.begin(live, prompt_of[coming])
        elif len(live := np.flatnonzero(draw_of >= 0)):
            logits, of_logits = decoder.step(live, tokens[live])
        else:
            break
        rows, columns = draw_of[live], at[live]
        drawn, log_prob = next_tokens(logits, of_logits, uniforms[rows, columns], selectivity)
        ids[rows, columns], recorded[rows, columns] = drawn, log_prob
        stopped = np.isin(drawn, stops)
        at[live] += 1
        tokens[live] = drawn
        done = stopped | (at[live] == horizon)
        lengths[rows[done]], ended[rows[done]] = at[live[done]], stopped[done]
        draw_of[live[done]] = -1
    kept = np.arange(horizon) < lengths[:, None]
    return Sequences(ids[kept], lengths, ended, prompts, network.vocabulary, recorded[kept], prompt_of.astype(np.int32))


def in_turn(first: int, draws: int, prompts: int) -> Int[np.ndarray, " draws"]:
    """Which prompt each of the draws `first`, `first` + 1, ... follows: the prompts in turn, so that any
    run of draws is spread evenly over them."""
    return (first + np.arange(draws)) % prompts


def next_tokens(
    logits: Float[Tensor, "n v"],
    rows: Int[np.ndarray, " m"],
    uniforms: Float[np.ndarray, " m"],
    selectivity: Selectivity,
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """For each uniform number a token by inversion, from the row of logits that `rows` names, and its log-probability
    (nats)."""
    if selectivity == UNCHANGED and fits(in_rows(logits)):  # the loop copies no logits: no need for pieces in fp32
        return invert_cdf(logits, uniforms, rows)
    drawn, log_prob, start = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.float32), 0
    for piece in in_pieces(logits):
        here = np.flatnonzero((start <= rows) & (rows < start + len(piece)))
        if len(here):
            drawn[here], log_prob[here] = invert_cdf(selectivity(piece), uniforms[here], rows[here] - start)
        start += len(piece)
    return drawn, log_prob
