"""Tokenizers of model folders: reading one, encoding a text with it, and whether two are the same."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from distilscope.errors import UsageError, shown
from distilscope.lm.models.model_folder import read_config


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """A model folder's tokenizer.json, where it has one."""
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path)) if path.exists() else None
    except Exception as error:  # `tokenizers` raises nothing more specific
        raise UsageError(f"{path} is no tokenizer ({error}); give a complete model folder") from None


def encode(tokenizer: Tokenizer | None, text: str, *, what: str = "the prompt") -> tuple[int, ...]:
    """Token ids of a text, by default a prompt; raises UsageError where decoding them does not give the text back."""
    if tokenizer is None:
        raise UsageError("the model has no tokenizer.json, so text cannot be read; give a complete model folder")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    back = tokenizer.decode(ids, skip_special_tokens=False)
    if not ids:
        raise UsageError(
            f"{what} is empty, but a model needs at least one token to continue; give a text such as 'The'"
        )
    if back != text:
        raise UsageError(
            f"{what} {shown(text)} reads {shown(back)} once tokenised: the vocabulary lacks some of its bytes; "
            "use other words or a larger vocabulary"
        )
    return tuple(ids)


def require_same_tokens(
    reference: Path, other: Path, *, vocabulary: int = 0, remedy: str = "give models with one tokenizer"
) -> None:
    """Raises UsageError unless an id (below `vocabulary`, unless that is 0) means the same text in both model
    folders."""
    sizes = [read_config(folder).get("vocab_size") for folder in (reference, other)]
    if vocabulary:
        sizes = [min(size, vocabulary) if isinstance(size, int) else size for size in sizes]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"the reference has {sizes[0]} tokens and {other} has {sizes[1]}, so their log-probabilities "
            f"are not of the same things; {remedy}"
        )
    tokenizers = [read_tokenizer(folder) for folder in (reference, other)]
    known = [
        {token: i for token, i in tokenizer.get_vocab().items() if not vocabulary or i < vocabulary}
        for tokenizer in tokenizers
        if tokenizer is not None
    ]
    if len(known) == 2 and known[0] != known[1]:
        raise UsageError(f"the reference and {other} give token ids different meanings; {remedy}")
