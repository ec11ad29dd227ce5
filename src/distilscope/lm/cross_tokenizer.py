"""Scores one model's draws under a model with another tokenizer, through their text, which is all that both share.

A side's own log-probability is exact: of the tokens as they were drawn. The other side's is that of the tokens its own
tokenizer writes the text with (the canonical ones), after its own tokens of the prompt, with a stopping token where the
draw ended.

- Other tokens could make the same text, so this is a lower bound of the other side's probability of that text: tight
  where sequences are canonical. How often a side's own draws are not is measured (`canonical`).
- A draw cut at the horizon is read as the beginning of a text, whatever follows; a character cut in two is left out.
- So the two sides give probabilities to different sets of sequences, and a divergence near zero can come out below it.
- The stopping token is the one of the same name, or else the first that the other side has; a side without any gives
  probability zero to a draw that ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distilscope.errors import UsageError
from distilscope.lm import scoring
from distilscope.lm.causal_lm import PromptedLM
from distilscope.lm.data.detokenize import BROKEN, Continuations
from distilscope.lm.sequences import Sequences, id_dtype


@dataclass(frozen=True)
class Reader:
    """A model bound to prompts, with its tokenizer's way of continuing their text."""

    lm: PromptedLM
    continuations: Continuations

    @classmethod
    def of(cls, lm: PromptedLM, prompts: tuple[str, ...]) -> Reader:
        return cls(lm, Continuations(lm.model.tokenizer, prompts, lm.prompts))

    def canonical(self, draws: Sequences, texts: list[str]) -> Bool[np.ndarray, " n"]:
        """Whether the tokenizer would write each of this side's own draws as it was drawn: encode(decode(ids)) ==
        ids."""
        written = self.continuations.encode(texts, draws.prompt_of)
        drawn = (row[: len(row) - ended].tolist() for row, ended in zip(draws, draws.ended.tolist(), strict=True))
        return np.array([ids == row for ids, row in zip(written, drawn, strict=True)], dtype=bool)

    def log_prob(self, draws: Sequences, texts: list[str], *, stop: int | None) -> Float[np.ndarray, " n"]:
        """Log-probability (nats) of another side's draws, as this side writes their texts; -inf for one it cannot
        write."""
        whole = [
            text if ended else text.rstrip(BROKEN) for text, ended in zip(texts, draws.ended.tolist(), strict=True)
        ]
        rows: dict[int, list[int]] = {}
        for i, (ids, ended) in enumerate(
            zip(self.continuations.encode(whole, draws.prompt_of), draws.ended.tolist(), strict=True)
        ):
            ending = [stop] if ended and stop is not None else []
            if ids is not None and max(ids, default=0) < self.lm.model.network.vocabulary and len(ending) == ended:
                rows[i] = [*ids, *ending]
        found = np.full(len(draws), -np.inf)
        found[[i for i, row in rows.items() if not row]] = 0.0  # every text begins with nothing
        places = np.array([i for i, row in rows.items() if row], dtype=np.int64)
        if len(places):
            read = self._sequences([rows[i] for i in places.tolist()], draws.take(places))
            found[places] = read.sum_per_sequence(
                scoring.log_prob((self.lm.model.network, self.lm.model.selectivity), read)
            )
        return found

    def _sequences(self, rows: list[list[int]], draws: Sequences) -> Sequences:
        network = self.lm.model.network
        lengths = np.array([len(row) for row in rows], dtype=np.int32)
        ids = np.concatenate([np.array(row) for row in rows]).astype(id_dtype(network.vocabulary))
        found = Sequences(ids, lengths, draws.ended, self.lm.prompts, network.vocabulary, prompt_of=draws.prompt_of)
        longest = int((found.contexts + found.lengths).max())
        if longest > network.context:
            raise UsageError(
                f"a text has {longest} tokens, its prompt included, where it is read by a model whose context holds "
                f"{network.context}; "
                "use a smaller --max-new-tokens"
            )
        return found


def stop_of(own: PromptedLM, other: PromptedLM) -> int | None:
    """The token with which `other` ends what `own` ended: the one of the same name, else its first; None where it has
    none."""
    assert own.model.tokenizer is not None
    assert other.model.tokenizer is not None
    names = {own.model.tokenizer.id_to_token(token) for token in own.model.stopping}
    stops = sorted(other.model.stopping)
    return next(
        (token for token in stops if other.model.tokenizer.id_to_token(token) in names), stops[0] if stops else None
    )
