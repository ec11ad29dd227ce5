"""The README of what leaves a run: a model card for a student, a dataset card for the teacher's data.

Both say what they were made from, how, and what was measured of it with which uncertainty; front matter as the Hugging
Face hub reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CardData, DatasetCard, DatasetCardData, ModelCard, ModelCardData, RepoCard

from distilscope.evaluation.estimate import Estimate
from distilscope.report.candidates import Cast, Group
from distilscope.report.results_table import (
    COLUMNS,
    by_label,
    earns_its_keep,
    ground_truth_name,
    over_seeds,
    setting_label,
)

TAGS = ["distilscope", "knowledge-distillation"]

COLUMNS_OF_DATA = {
    "prompt, completion": "text, for eyes and for trainers that want text; the stopping token is not in it",
    (
        "prompt_ids, completion_ids"
    ): "the same as token ids, as they were drawn; a stopping token that was drawn is the last id",
    (
        "input_ids, attention_mask, labels"
    ): "prompt and completion in one, with labels of -100 on the prompt: ready to train on",
    "length": "tokens of the completion, its stopping token counted",
    "ended": "whether it stopped by itself; if not, it was cut at the horizon, and no stopping token is to be appended",
    (
        "log_prob, token_log_prob"
    ): "nats under the teacher at this setting, of the whole completion and of each of its tokens",
}


@dataclass(frozen=True)
class Origin:
    """Where something exported comes from, beside what results.json says."""

    licence: str | None
    """Of p*, as far as it is known."""
    parameters: Mapping[str, int]
    """Weights of p*, teacher and student, by role."""
    starts: Mapping[str, str]
    """By role, the pretrained model that teacher or student started from; a role that started from scratch is left out.
    """
    version: str
    """Of Distilscope."""


def model_card(
    results: dict[str, Any], selectivity: Mapping[str, float | int] | None, seed: int, origin: Origin
) -> str:
    """Of the student that learnt from the teacher at this selectivity (None: from p*'s own draws) in this seed."""
    truth, group = results["ground_truth"], _group(results, selectivity)
    record = next(one for one in group.records if one["seed"] == seed)
    drawn = "p*'s own draws" if group.role == "direct" else f"draws of a teacher at {setting_label(selectivity)}"
    made = f"It was trained on {drawn} and measured against p*" + (
        "."
        if truth["dtype"]
        else ", of which there are draws alone: so there is recall, and neither precision nor divergence."
    )
    start = origin.starts.get("student")
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        base_model=start.removeprefix("hf:") if start and start.startswith("hf:") else None,
    )
    return _card(
        ModelCard,
        data,
        f"# {_titled(group)}, seed {seed}",
        f"A causal language model of {origin.parameters['student']:,} weights. {made}",
        _ground_truth(results, origin.licence),
        "## What was measured",
        _measured(results, group, record, seed),
        _gate(record),
        f"{_signed(earns_its_keep(results))} A low-entropy model can have a high precision and still be a "
        "poor one: read precision, recall and both divergences together.",
        "## How it was made",
        _made(results, group, record, origin),
        "## How to use it",
        USE.format(
            horizon=truth["horizon"], temperature=results["evaluation_temperature"], prompt=truth["prompt"] or "The"
        ),
    )


USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
output = model.generate(**tokenizer({prompt!r}, return_tensors="pt", add_special_tokens=False))
print(tokenizer.decode(output[0]))
```

`generation_config.json` draws from the whole vocabulary at temperature {temperature:g}, at most {horizon} tokens, as
the student was measured. It has learnt nothing but such sequences after the prompts above: it is meant for studies of
distillation, not to be relied on."""


def data_card(
    results: dict[str, Any],
    selectivity: Mapping[str, float | int],
    seed: int,
    origin: Origin,
    *,
    number: int,
    file: str,
) -> str:
    """Of the teacher's draws at this selectivity in this seed: `number` rows in `file`."""
    label, horizon = setting_label(selectivity), results["ground_truth"]["horizon"]
    teacher = next(one for one in results["teacher"] if one["seed"] == seed and one["selectivity"] == selectivity)
    rows = [f"| `{'`, `'.join(names.split(', '))}` | {what} |" for names, what in COLUMNS_OF_DATA.items()]
    data = DatasetCardData(
        task_categories=["text-generation"],
        tags=TAGS,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": file}]}],
    )
    return _card(
        DatasetCard,
        data,
        f"# D′: {number:,} sequences of a teacher at {label}, seed {seed}",
        f"Drawn from a teacher of {origin.parameters['teacher']:,} weights at {label}, at most {horizon} tokens after "
        "the prompt. "
        f"Per sequence: entropy {_estimate(teacher['entropy'])} nats, log-probability under p* "
        f"{_estimate(teacher['precision'])} nats, "
        f"{_estimate(teacher['mean_length'])} tokens (± one standard error, the first "
        f"{teacher['entropy']['n']} draws).",
        _ground_truth(results, origin.licence),
        "## Columns",
        "\n".join(["| column | what it is |", "|---|---|", *rows]),
        "Train on the ids: text that is tokenised again is other tokens, and a trainer that reads text appends a "
        "stopping token to "
        "sequences that were cut. TRL's `SFTTrainer` takes `input_ids` and `labels` as they are.",
        "## How it was made",
        f"{_teacher(results, origin)} {_by(results, origin)}",
    )


def _card(kind: type[RepoCard], data: CardData, *parts: str) -> str:
    return str(kind(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _group(results: dict[str, Any], selectivity: Mapping[str, float | int] | None) -> Group:
    cast = Cast(results)
    return next(group for group in (*cast.distilled, *cast.direct) if group.selectivity == selectivity)


def _titled(group: Group) -> str:
    return "Direct student" if group.role == "direct" else f"Student distilled at {group.label}"


def _ground_truth(results: dict[str, Any], licence: str | None) -> str:
    truth = results["ground_truth"]
    after = f"the prompt {truth['prompt']!r}" if truth["prompt"] is not None else f"{truth['prompts']} prompts in turn"
    return (
        f"**p\\***, the distribution to be learnt: {ground_truth_name(results)} (`{truth['reference']}`), "
        f"at most {truth['horizon']} tokens after {after}, entropy {_estimate(truth['entropy'])} nats per sequence (± "
        "one standard error). "
        f"Licence of p\\*: {licence or 'not known here; ask where it comes from'}."
    )


def _measured(results: dict[str, Any], group: Group, record: Mapping[str, Any], seed: int) -> str:
    """This student beside all seeds of its kind."""
    students = by_label(results)[group.label]
    rows = [f"| | this one, seed {seed} | {results['seeds']} seeds |", "|---|---|---|"]
    for name, path in COLUMNS.items():
        one: Any = record
        for key in path:
            one = one[key]
        rows.append(
            f"| {name.replace('*', chr(92) + '*')} | {_estimate(one)} | {_signed(over_seeds(students, path))} |"
        )
    n = record["recall"]["n"]
    note = (
        f"In {results['unit']} (length: tokens). This one: ± one standard error over {n} draws of each side; seeds: "
        "mean ± 95% t-interval"
        if results["seeds"] > 1
        else (
            f"In {results['unit']} (length: tokens), ± one standard error over {n} draws of each side; one seed, "
            "so no interval"
        )
    )
    return "\n".join(
        [*rows, "", f"{note}. P is the student's draws under p\\*, R p\\*'s draws under the student; higher is better."]
    )


def _gate(record: Mapping[str, Any]) -> str:
    z = record["sampler_check"]["candidate"]
    said = _signed(f"z = {z:.2f}") if isinstance(z, float) else z
    again = "Its draws, scored again, gave their recorded probabilities"
    return f"{again}, and their total agrees with its own expectation ({said}; 4 would stop a run)."


def _made(results: dict[str, Any], group: Group, record: Mapping[str, Any], origin: Origin) -> str:
    truth, checkpoint = results["ground_truth"], record["checkpoint"]
    if group.role == "direct":
        teacher, source = "", f"{truth['num_train']:,} sequences of p\\*"
    else:
        teacher, source = (
            _teacher(results, origin) + " ",
            f"{results['num_distill']:,} sequences that the teacher drew at {group.label}",
        )
    if not checkpoint:
        return f"{teacher}The student was kept as it was: {_start('student', origin)}. {_by(results, origin)}"
    return (
        f"{teacher}The student started {_start('student', origin)} and learnt {source}, {checkpoint['tokens']:,} "
        "tokens in all; "
        f"kept is step {checkpoint['step']}, the best on {truth['num_validation']:,} held-out sequences of p\\*. "
        f"{_by(results, origin)}"
    )


def _teacher(results: dict[str, Any], origin: Origin) -> str:
    if not results["teacher"][0]["checkpoint"]:
        return f"The teacher was kept as it was: {_start('teacher', origin)}."
    return (
        f"The teacher started {_start('teacher', origin)} and learnt {results['ground_truth']['num_train']:,} "
        "sequences of p\\*."
    )


def _start(role: str, origin: Origin) -> str:
    return f"from `{origin.starts[role]}`" if role in origin.starts else "from scratch"


def _by(results: dict[str, Any], origin: Origin) -> str:
    return (
        f"Made with Distilscope {origin.version}, recipe `{results['recipe']}`; the study is that of [arXiv "
        "2505.13111](https://arxiv.org/abs/2505.13111)."
    )


def _estimate(record: dict[str, Any]) -> str:
    return _signed(str(Estimate.from_json(record)))


def _signed(text: str) -> str:
    return re.sub(r"-(?=\d)", "−", text)
