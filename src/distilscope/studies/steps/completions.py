"""The step that tokenises real data in place of p*'s draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilscope.errors import UsageError
from distilscope.studies.costs import Cost
from distilscope.studies.steps.registry import StepKind, register

if TYPE_CHECKING:
    from distilscope.lm.data.completions import Example


def tokenise_data(config: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, scratch: Path) -> dict[str, int]:  # noqa: ARG001
    """The `rows` rows of a file after the `first`, in the order that the key shuffles all of them into, as
    sequences."""
    from distilscope.lm.data.completions import tokenised
    from distilscope.lm.data.tokenizer import read_tokenizer
    from distilscope.lm.models.model_folder import read_config
    from distilscope.studies.artifacts import key_of, read_prompts

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
    from distilscope.lm.data.completions import read_examples
    from distilscope.lm.data.prompts import chat_template
    from distilscope.lm.loading import file_digest

    if file_digest(file) != sha256:
        raise UsageError(f"{file} has changed since the study was planned; run it again")
    return read_examples(file, template=chat_template(Path(template)) if template else None)


def cost(*, rows: int, horizon: int) -> Cost:
    """Of a tile of rows: token ids of two bytes, and of each row its length, end and prompt."""
    return Cost(tokens=rows * horizon, disk=rows * (2 * horizon + 9))


DATA = register(StepKind("data", version=1, function="distilscope.studies.steps.completions:tokenise_data", cost=cost))
