"""Prompts from a file, as TRL and `datasets` keep them: JSON lines or Parquet with a column `prompt`, text or chat
messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError, one_line
from distilscope.lm.data.table_rows import read_rows

Messages = list[dict[str, str]]
Template = Callable[[Messages], str]
"""Writes chat messages as the text that a model was trained to answer."""

LONGEST = 1_000_000
"""Characters of a prompt; a longer one is no prompt but a mistake."""


def read_prompts(path: Path, *, template: Template | None = None) -> tuple[str, ...]:
    """The prompts' texts, in order. With a template, text counts as one message of the user's; without, only text is
    taken.

    Raises UsageError for a file that cannot be read, holds no prompts, or holds an empty one or one twice.
    """
    seen: dict[str, str] = {}
    for where, row in read_rows(path, ("prompt",), needed=("prompt",)):
        text = prompt_text(row["prompt"], template, f"{path}, {where}")
        if text in seen:
            raise UsageError(
                f"{path}, {where}: this prompt was given in {seen[text]} already; give each once, since draws follow "
                "all alike"
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
            f"the tokenizer in {folder} cannot be loaded ({one_line(error)}); give prompts as text"
        ) from None
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(f"the model in {folder} has no chat template; give prompts as text, without --chat-template")

    def render(messages: Messages) -> str:
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # the template is the model's own little program
            raise UsageError(
                f"the chat template of {folder} refuses a prompt ({one_line(error)}); mend its messages"
            ) from None

    return render


def prompt_text(prompt: Any, template: Template | None, where: str) -> str:
    """The text of a prompt given as text or chat messages; `where` names its place. Raises UsageError for anything
    else."""
    if isinstance(prompt, str):
        text = prompt if template is None else template([{"role": "user", "content": prompt}])
    elif not _is_messages(prompt):
        raise UsageError(
            f"{where}: the prompt is neither text nor a list of messages with role and content; write it as one of them"
        )
    elif template is None:
        raise UsageError(
            f"{where}: the prompt is a list of chat messages; give --chat-template to have the reference's template "
            "applied"
        )
    else:
        text = template([{"role": message["role"], "content": message["content"]} for message in prompt])
    if len(text) > LONGEST:
        raise UsageError(
            f"{where}: the prompt has {len(text):,} characters, but at most {LONGEST:,} are read; shorten it"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: the prompt is not text in UTF-8; write it again") from None
    if not text.strip():
        raise UsageError(f"{where}: the prompt is empty; give it some text, or leave it out")
    return text


def _is_messages(prompt: Any) -> bool:
    return (
        isinstance(prompt, list)
        and len(prompt) > 0
        and all(isinstance(m, dict) and all(isinstance(m.get(key), str) for key in ("role", "content")) for m in prompt)
    )
