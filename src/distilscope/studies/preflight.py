"""What is refused before anything is drawn, since it would fail hours later.

Models that cannot be trained here, models whose tokens differ, prompts that cannot be read or do not fit.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from distilscope.errors import UsageError
from distilscope.lm.causal_lm import require_context
from distilscope.lm.data.tokenizer import encode, read_tokenizer, require_same_tokens
from distilscope.lm.models.model_folder import stopping_ids
from distilscope.lm.models.transformers_model import context_of
from distilscope.lm.models.vocabulary_cut import cut_tokenizer
from distilscope.studies.config import Distillation, Learner
from distilscope.studies.inputs import Source, Sources


def require_ready(config: Distillation, sources: Sources) -> None:
    """Raises UsageError; what is not on this machine yet (a model on the hub) is left to the steps themselves."""
    learners: dict[str, tuple[Learner, Source | None]] = {
        "teacher": (config.teacher, sources.teacher),
        "student": (config.student, sources.student),
    }
    tokens, vocabulary = sources.tokenizer, config.ground_truth.vocabulary
    for role, (learner, source) in learners.items():
        if source is None or not source.folder:
            continue
        if source.architecture is None and learner.training.epochs:
            raise UsageError(
                f"the {role} {learner.reference} is no plain Llama, and only those are trained here; keep it as it is "
                f"(--{role}.training.epochs 0), or start from a Llama or from scratch"
            )
        if source.architecture is None and vocabulary:
            raise UsageError(
                f"the {role} {learner.reference} is no plain Llama, so its vocabulary cannot be cut; use --vocabulary 0"
            )
        if tokens.folder:
            require_same_tokens(Path(tokens.folder), Path(source.folder), vocabulary=vocabulary)
    if tokens.folder:
        _require_prompts(config, sources)


def _require_prompts(config: Distillation, sources: Sources) -> None:
    """Every prompt can be read by the study's tokenizer and fits, with the horizon, into each pretrained model."""
    folder, vocabulary = Path(sources.tokenizer.folder), config.ground_truth.vocabulary
    tokenizer = read_tokenizer(folder)
    if vocabulary and tokenizer is not None:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(cut_tokenizer(text, vocabulary, stopping_ids(folder)))
    prompts = tuple(encode(tokenizer, text) for text in json.loads(sources.prompts.texts))
    for source in (sources.ground_truth, sources.teacher, sources.student):
        if source is not None and source.folder:
            context = source.architecture.context if source.architecture else context_of(Path(source.folder))
            require_context(prompts, config.ground_truth.horizon, context)
