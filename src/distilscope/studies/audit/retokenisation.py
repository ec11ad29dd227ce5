"""Traps that change sequences, or how their log-probabilities are averaged (2, 3, 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer

from distilscope.lm.sequences import Sequences


@dataclass(frozen=True)
class Retokenised:
    """Draws that were decoded to text and tokenised again."""

    sequences: Sequences
    """The draws that still have a token after the prompt."""
    rows: Int[np.ndarray, " m"]
    """Indices of those draws."""
    changed: Bool[np.ndarray, " n"]
    """Whether the tokens of each draw changed."""

    def per_draw(self, per_token: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " n"]:
        """Sum a value per token within each draw; a draw without tokens has 0."""
        totals = np.zeros(len(self.changed))
        totals[self.rows] = self.sequences.sum_per_sequence(per_token)
        return totals

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        lengths = np.zeros(len(self.changed), dtype=np.int32)
        lengths[self.rows] = self.sequences.lengths
        return lengths


def retokenised(draws: Sequences, tokenizer: Tokenizer, *, longest: int) -> Retokenised:
    """Trap 2: decode prompt and continuation without special tokens, tokenise again, and cut at `longest` tokens.

    The text is tokenised as a whole, so a token may now straddle the prompt's end; as many tokens as the prompt had are
    the context, the rest are scored.
    """
    contexts: dict[tuple[int, ...], int] = {}
    kept, ids, prompt_of, changed = [], [], [], np.zeros(len(draws), dtype=bool)
    for at, (which, row) in enumerate(zip(draws.prompt_of.tolist(), draws, strict=True)):
        prompt, before = draws.prompts[which], row.tolist()
        text = tokenizer.decode([*prompt, *before], skip_special_tokens=True)
        again = tokenizer.encode(text, add_special_tokens=False).ids
        context, after = tuple(again[: len(prompt)]), again[len(prompt) : len(prompt) + longest]
        changed[at] = context != prompt or after != before
        if after:
            kept.append(at)
            ids.append(np.array(after, dtype=draws.ids.dtype))
            prompt_of.append(contexts.setdefault(context, len(contexts)))
    sequences = Sequences(
        ids=np.concatenate(ids) if ids else np.zeros(0, dtype=draws.ids.dtype),
        lengths=np.array([len(row) for row in ids], dtype=np.int32),
        ended=np.zeros(len(ids), dtype=bool),
        prompts=tuple(contexts),
        vocabulary=draws.vocabulary,
        prompt_of=np.array(prompt_of, dtype=np.int32),
    )
    return Retokenised(sequences, np.array(kept, dtype=np.int64), changed)


def without_stops(sequences: Sequences) -> Sequences:
    """Trap 3: what the loss sees if the stopping token is also the padding, which is masked from the loss.

    A stopping token comes last and nothing follows from it, so masking it is leaving it out. A sequence of that token
    alone is dropped.
    """
    last = np.zeros(len(sequences.ids), dtype=bool)
    last[sequences.offsets[1:][sequences.ended] - 1] = True
    lengths = (sequences.lengths - sequences.ended).astype(sequences.lengths.dtype)
    shorter = replace(
        sequences,
        ids=sequences.ids[~last],
        lengths=lengths,
        ended=np.zeros_like(sequences.ended),
        log_prob=None if sequences.log_prob is None else sequences.log_prob[~last],
    )
    return shorter.take(np.flatnonzero(lengths))


def padded(sequences: Sequences, pad: int, length: int) -> Sequences:
    """Trap 4: rows of `length` tokens, prompt included, padded with `pad`; all tokens but the first are labels."""
    rows = [
        np.concatenate([np.array(sequences.prompts[which], dtype=sequences.ids.dtype), row])[:length]
        for which, row in zip(sequences.prompt_of.tolist(), sequences, strict=True)
    ]
    full = np.full((len(rows), length), pad, dtype=sequences.ids.dtype)
    for filled, row in zip(full, rows, strict=True):
        filled[: len(row)] = row
    first = tuple(sorted({int(row[0]) for row in rows}))
    return Sequences(
        ids=full[:, 1:].reshape(-1),
        lengths=np.full(len(rows), length - 1, dtype=np.int32),
        ended=np.zeros(len(rows), dtype=bool),
        prompts=tuple((token,) for token in first),
        vocabulary=sequences.vocabulary,
        prompt_of=np.searchsorted(first, full[:, 0]).astype(np.int32),
    )


def pad_share(sequences: Sequences, length: int) -> float:
    """Share of pads among the labels of rows that are padded to `length` tokens, prompt included."""
    return 1 - float(np.minimum(sequences.positions, length - 1).sum()) / (len(sequences) * (length - 1))


def corpus_mean(log_prob: Float[np.ndarray, " n"], lengths: Int[np.ndarray, " n"]) -> float:
    """Trap 5: the sum of log-probabilities over the number of tokens. Both change with the model."""
    return float(log_prob.sum() / lengths.sum())
