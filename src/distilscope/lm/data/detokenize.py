"""Draws as text: to be read, to count bytes, and to score under a model with another tokenizer; never under the model
that drew them."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer

from distilscope.errors import UsageError
from distilscope.lm.sequences import Sequences

BROKEN = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are no character, as where a sequence was cut inside one."""


def texts(tokenizer: Tokenizer, draws: Sequences) -> list[str]:
    """The text with which each draw goes on from its prompt, its stopping token left out.

    Decoded together with the prompt's last token, since some tokenizers drop the space that begins a text.
    """
    leads = [prompt[-1] for prompt in draws.prompts]
    rows = [
        [leads[which], *row[: len(row) - ended].tolist()]
        for which, ended, row in zip(draws.prompt_of.tolist(), draws.ended.tolist(), draws, strict=True)
    ]
    return [
        tokenizer.decode(row[1:], skip_special_tokens=False) if text is None else text
        for row, text in zip(rows, _beyond_first(tokenizer, rows), strict=True)
    ]


def _beyond_first(tokenizer: Tokenizer, rows: list[list[int]]) -> list[str | None]:
    """Each row's text beyond that of its first token; None where the whole does not begin with it."""
    first = {token: tokenizer.decode([token], skip_special_tokens=False) for token in {row[0] for row in rows}}
    whole = tokenizer.decode_batch(rows, skip_special_tokens=False)
    return [
        text.removeprefix(first[row[0]]) if text.startswith(first[row[0]]) else None
        for row, text in zip(rows, whole, strict=True)
    ]


class Continuations:
    """Tokenises texts that continue a prompt whose own ids stay as they are."""

    def __init__(
        self, tokenizer: Tokenizer | None, prompts: tuple[str, ...], prompt_ids: tuple[tuple[int, ...], ...]
    ) -> None:
        if tokenizer is None:
            raise UsageError("a model without tokenizer.json cannot read another's text; give a complete model folder")
        self.tokenizer, self.prompts, self.prompt_ids = tokenizer, prompts, prompt_ids

    def encode(self, written: list[str], prompt_of: np.ndarray) -> list[list[int] | None]:
        """Token ids of each text, canonical: as the tokenizer writes it. None for a text that it cannot write."""
        alone = [encoding.ids for encoding in self.tokenizer.encode_batch(written, add_special_tokens=False)]
        return [
            ids if self._reads(ids, text, which) else self._with_prompt(text, which)
            for ids, text, which in zip(alone, written, prompt_of.tolist(), strict=True)
        ]

    def _with_prompt(self, text: str, which: int) -> list[int] | None:
        """Tokenised together with its prompt, for tokenizers that mark the beginning of a text."""
        prompt = list(self.prompt_ids[which])
        ids = self.tokenizer.encode(self.prompts[which] + text, add_special_tokens=False).ids
        rest = ids[len(prompt) :]
        return rest if ids[: len(prompt)] == prompt and self._reads(rest, text, which) else None

    def _reads(self, ids: list[int], text: str, which: int) -> bool:
        return _beyond_first(self.tokenizer, [[self.prompt_ids[which][-1], *ids]]) == [text]
