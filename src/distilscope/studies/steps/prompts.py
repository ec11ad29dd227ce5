"""The step that tokenises the prompts, once for all models of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distilscope.studies.costs import Cost
from distilscope.studies.steps.registry import StepKind, register


def encode_prompts(
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    output: Path,
    scratch: Path,  # noqa: ARG001
) -> dict[str, int]:
    """Writes what all models share: the prompts' token ids, by p*'s tokenizer, and the ids that end a sequence,
    p*'s."""
    from distilscope.lm.data.tokenizer import encode, read_tokenizer
    from distilscope.lm.models.model_folder import stopping_ids

    tokenizer = read_tokenizer(inputs["tokenizer"])
    prompts = [encode(tokenizer, text) for text in json.loads(config["texts"])]
    record = {"prompts": prompts, "stopping": sorted(stopping_ids(inputs["tokenizer"]))}
    (output / "prompts.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return {"prompts": len(prompts), "tokens": sum(map(len, prompts))}


def cost(texts: str) -> Cost:
    """Of prompts, given as JSON."""
    return Cost(disk=8 * len(texts))


PROMPTS = register(
    StepKind("prompts", version=1, function="distilscope.studies.steps.prompts:encode_prompts", cost=cost)
)
