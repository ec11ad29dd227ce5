"""The step that tokenises real data in place of p*'s draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError
from distilscope.lm.data.completions import Example, read_examples, tokenised
from distilscope.lm.data.prompts import chat_template
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.models.model_folder import read_config
from distilscope.studies.artifacts import key_of, read_prompts
from distilscope.system.file_digest import file_digest


def tokenise_data(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """The `rows` rows of a file after the `first`, in the order that the key shuffles all of them into, as
    sequences."""
    examples = _examples(Path(config["file"]), config["sha256"], config["template"])
    order = key_of(config["key"]).generator().permutation(len(examples))
    prompts, stopping = read_prompts(inputs["prompts"])
    data = tokenised(
        [examples[row] for row in order[config["first"] : config["first"] + config["rows"]]],
        texts=json.loads(config["texts"]),
        prompts=prompts,
        tokenizer=read_tokenizer(inputs["tokenizer"]),
        vocabulary=read_config(inputs["tokenizer"])["vocab_size"],
        stopping=stopping,
        horizon=config["horizon"],
        default=config["default"],
    )
    data.save(output / "sequences.safetensors")
    return {"sequences": len(data), "tokens": len(data.ids), "ended": int(data.ended.sum())}


@lru_cache(maxsize=1)
def _examples(file: Path, sha256: str, template: str) -> tuple[Example, ...]:
    """Kept between steps: each takes a few rows of the one file."""
    if file_digest(file) != sha256:
        raise UsageError(f"{file} has changed since the study was planned; run it again")
    return read_examples(file, template=chat_template(Path(template)) if template else None)
