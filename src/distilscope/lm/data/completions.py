"""Prompts and completions from a file, tokenised once: real data in place of p*'s draws.

No model drew them, so no log-probabilities were recorded and neither gate applies. A completion is tokenised by itself
and put behind its prompt's tokens. It ends with
its first stopping token; where it has none, one is appended, unless the sequence then exceeds the horizon, at which it
is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from distilscope.errors import UsageError
from distilscope.lm.data.prompts import Template, prompt_text
from distilscope.lm.data.table_rows import read_rows
from distilscope.lm.data.tokenizer import encode
from distilscope.lm.sequences import Prompts, Sequences, id_dtype


@dataclass(frozen=True)
class Example:
    """A row: its prompt's text (None: the study's own), and its completion as text or as token ids."""

    where: str
    prompt: str | None
    completion: str | tuple[int, ...]


def read_examples(path: Path, *, template: Template | None = None) -> tuple[Example, ...]:
    """The file's rows in order: a column `completion` (text) or `ids` (tokens), and maybe `prompt` (text, or chat
    messages).

    Raises UsageError for a file that cannot be read or holds no rows, and for a row without a usable completion.
    """
    examples = tuple(
        Example(where, _prompt(row, template, where), _completion(row, where))
        for place, row in read_rows(path, ("prompt", "completion", "ids"))
        for where in [f"{path}, {place}"]
    )
    if not examples:
        raise UsageError(f'{path} holds no rows; give lines such as {{"prompt": "The", "completion": " end"}}')
    return examples


def prompts_of(examples: Sequence[Example], default: str) -> tuple[str, ...]:
    """The distinct prompts, in the order of their first row."""
    return tuple(dict.fromkeys(default if one.prompt is None else one.prompt for one in examples))


def tokenised(
    examples: Sequence[Example],
    *,
    texts: Sequence[str],
    prompts: Prompts,
    tokenizer: Tokenizer | None,
    vocabulary: int,
    stopping: frozenset[int],
    horizon: int,
    default: str,
) -> Sequences:
    """The examples as sequences after `prompts`, whose texts are `texts`; `default` is the prompt of a row without
    one."""
    place = {text: i for i, text in enumerate(texts)}
    rows, ended = [], []
    for one in examples:
        ids, end = _sequence(one, tokenizer, vocabulary, stopping, horizon)
        rows.append(np.array(ids, dtype=id_dtype(vocabulary)))
        ended.append(end)
    return Sequences(
        ids=np.concatenate(rows),
        lengths=np.array([len(row) for row in rows], dtype=np.int32),
        ended=np.array(ended),
        prompts=prompts,
        vocabulary=vocabulary,
        prompt_of=np.array([place[default if one.prompt is None else one.prompt] for one in examples], dtype=np.int32),
    )


def _sequence(
    one: Example, tokenizer: Tokenizer | None, vocabulary: int, stopping: frozenset[int], horizon: int
) -> tuple[tuple[int, ...], bool]:
    """Token ids of at most `horizon`, and whether a stopping token ends them."""
    text = one.completion
    ids = (
        (encode(tokenizer, text, what=f"{one.where}: the completion") if text else ())
        if isinstance(text, str)
        else text
    )
    outside = next((token for token in ids if not 0 <= token < vocabulary), None)
    if outside is not None:
        raise UsageError(
            f"{one.where} has token {outside}, outside the vocabulary of {vocabulary}; give ids of the teacher's "
            "tokenizer"
        )
    stop = next((i for i, token in enumerate(ids) if token in stopping), None)
    if stop is not None:
        ids = ids[: stop + 1]
    elif stopping:
        ids = (*ids, min(stopping))
    elif len(ids) < horizon:
        raise UsageError(
            f"{one.where} has {len(ids)} tokens, fewer than the horizon of {horizon}, but the teacher has no stopping "
            "token to end them; "
            "give a teacher that names one (eos_token_id)"
        )
    return ids[:horizon], bool(stopping) and len(ids) <= horizon


def _prompt(row: dict[str, Any], template: Template | None, where: str) -> str | None:
    return None if row.get("prompt") is None else prompt_text(row["prompt"], template, where)


def _completion(row: dict[str, Any], where: str) -> str | tuple[int, ...]:
    text, ids = row.get("completion"), row.get("ids")
    if (text is None) == (ids is None):
        what = "neither completion nor ids" if text is None else "both completion and ids"
        raise UsageError(f"{where} has {what}; give one of them")
    if isinstance(text, str):
        return text
    if isinstance(ids, list) and all(type(token) is int for token in ids):
        return tuple(ids)
    raise UsageError(f"{where}: a completion is text, and ids are a list of whole numbers; write it as one of them")
