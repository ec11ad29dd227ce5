"""Prompts from a file, as TRL and `datasets` keep them: JSON lines or Parquet with a column `prompt`, text or chat messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError

Messages = list[dict[str, str]]
Template = Callable[[Messages], str]
"""Writes chat messages as the text that a model was trained to answer."""

LONGEST = 1_000_000
"""Characters of a prompt; a longer one is no prompt but a mistake."""


def read_prompts(path: Path, *, template: Template | None = None) -> tuple[str, ...]:
    """The prompts' texts, in order. With a template, text counts as one message of the user's; without, only text is taken.

    Raises UsageError for a file that cannot be read, holds no prompts, or holds an empty one or one twice.
    """
    rows = _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    seen: dict[str, str] = {}
    for where, prompt in rows:
        text = _text(prompt, template, f"{path}, {where}")
        if not text.strip():
            raise UsageError(f"{path}, {where}: the prompt is empty; give it some text, or leave it out")
        if text in seen:
            raise UsageError(
                f"{path}, {where}: this prompt was given in {seen[text]} already; give each once, since draws follow all alike"
            )
        seen[text] = where
    if not seen:
        raise UsageError(f"{path} holds no prompt; give lines such as {json.dumps({'prompt': 'The'})}")
    return tuple(seen)


def chat_template(folder: Path) -> Template:
    """The chat template of a model folder's tokenizer, ending where the assistant's answer begins."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # `transformers` raises nothing more specific
        raise UsageError(
            f"the tokenizer in {folder} cannot be loaded ({' '.join(str(error).split())[:200]}); give prompts as text"
        ) from None
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(f"the model in {folder} has no chat template; give prompts as text, without --chat-template")

    def render(messages: Messages) -> str:
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # the template is the model's own little program
            raise UsageError(
                f"the chat template of {folder} refuses a prompt ({' '.join(str(error).split())[:200]}); mend its messages"
            ) from None

    return render


def _text(prompt: Any, template: Template | None, where: str) -> str:
    if isinstance(prompt, str):
        text = prompt if template is None else template([{"role": "user", "content": prompt}])
    elif not _is_messages(prompt):
        raise UsageError(f"{where}: the prompt is neither text nor a list of messages with role and content; write it as one of them")
    elif template is None:
        raise UsageError(f"{where}: the prompt is a list of chat messages; give --chat-template to have the reference's template applied")
    else:
        text = template([{"role": message["role"], "content": message["content"]} for message in prompt])
    if len(text) > LONGEST:
        raise UsageError(f"{where}: the prompt has {len(text):,} characters, but at most {LONGEST:,} are read; shorten it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: the prompt is not text in UTF-8; write it again") from None
    return text


def _is_messages(prompt: Any) -> bool:
    return (
        isinstance(prompt, list)
        and len(prompt) > 0
        and all(isinstance(m, dict) and all(isinstance(m.get(key), str) for key in ("role", "content")) for m in prompt)
    )


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{path}, line {number} is not JSON ({error}); write one object on each line") from None
                if not isinstance(row, dict) or "prompt" not in row:
                    raise UsageError(f"{path}, line {number} has no key prompt; write for example {json.dumps({'prompt': 'The'})}")
                yield f"line {number}", row["prompt"]
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give a file of prompts") from None


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        column = parquet.read_table(path, columns=["prompt"]).column("prompt").to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(f"{path} is no Parquet file with a column prompt ({' '.join(str(error).split())[:200]}); write it again") from None
    except KeyError:
        raise UsageError(f"{path} has no column prompt; write one") from None
    yield from ((f"row {number}", prompt) for number, prompt in enumerate(column, start=1))
