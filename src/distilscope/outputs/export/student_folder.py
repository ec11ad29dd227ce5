"""A student as a Hugging Face folder that `AutoModelForCausalLM` and `AutoTokenizer` load, and that draws as the study
drew from it."""

from __future__ import annotations

import json
from pathlib import Path

from distilscope.evaluation.candidates import SamplingParameters
from distilscope.lm.data.tokenizer import read_tokenizer
from distilscope.lm.models.model_folder import copy_model, read_config, stopping_ids, write_json


def write_student(folder: Path, model: Path, *, drawn_at: SamplingParameters, horizon: int, card: str) -> None:
    """Writes the model of an artifact: weights and tokenizer as they are, generation settings and a card.

    `drawn_at` is the selectivity, and `horizon` the most tokens, at which the student was measured. They go into
    generation_config.json, which `generate` reads; its own defaults would keep only the 50 likeliest tokens.
    """
    copy_model(model, folder)
    stopping, tokenizer = sorted(stopping_ids(model)), read_tokenizer(model)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    context = read_config(model).get("max_position_embeddings")
    if tokenizer is not None:
        special = {"eos_token": tokenizer.id_to_token(stopping[0])} if stopping else {}
        limit = {"model_max_length": context} if context else {}
        write_json(folder / "tokenizer_config.json", settings | special | limit)
    generation = folder / "generation_config.json"
    kept = (
        json.loads(generation.read_text(encoding="utf-8"))
        if generation.exists()
        else {"eos_token_id": stopping or None}
    )
    neutral = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    write_json(generation, kept | neutral | dict(drawn_at) | {"max_new_tokens": horizon})
    (folder / "README.md").write_text(card, encoding="utf-8")
