"""The README of what leaves a run: a model card for a student, a dataset card for the teacher's data.

Both say what they were made from, how, and what was measured of it with which uncertainty; front matter as the Hugging
Face hub reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import CardData, DatasetCard, DatasetCardData, ModelCard, ModelCardData, RepoCard

from distilscope.evaluation.candidates import Candidate
from distilscope.evaluation.estimate import Estimate
from distilscope.evaluation.results import Results, Student, Teacher
from distilscope.report.numbers import true_minus
from distilscope.report.results_table import COLUMNS, cells, control_sentence

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
    """Where something exported comes from, as far as results.json does not say it."""

    licence: str | None
    """Of p*, as far as it is known."""
    parameters: Mapping[str, int]
    """Weights of p*, teacher and student, by role."""
    starts: Mapping[str, str]
    """By role, the pretrained model that teacher or student started from; a role that started from scratch is left out.
    """
    version: str
    """Of Distilscope."""


def model_card(results: Results, candidate: Candidate, seed: int, origin: Origin) -> str:
    """Of a distilled or direct student in this seed."""
    truth = results.ground_truth
    students = [one for one in results.students if one.candidate == candidate]
    student = next(one for one in students if one.seed == seed)
    direct = candidate.role == "direct"
    drawn = "p*'s own draws" if direct else f"draws of a teacher at {candidate.label}"
    made = f"It was trained on {drawn} and measured against p*" + (
        "."
        if results.modelled
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
        f"# {'Direct student' if direct else f'Student distilled at {candidate.label}'}, seed {seed}",
        f"A causal language model of {origin.parameters['student']:,} weights. {made}",
        _ground_truth(results, origin.licence),
        "## What was measured",
        _measured(results, students, student),
        _gate(student),
        f"{true_minus(control_sentence(results))} A low-entropy model can have a high precision and still be a "
        "poor one: read precision, recall and both divergences together.",
        "## How it was made",
        _made(results, student, origin),
        "## How to use it",
        USE.format(horizon=truth.horizon, temperature=results.evaluation_temperature, prompt=truth.prompt or "The"),
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


def data_card(results: Results, candidate: Candidate, seed: int, origin: Origin, *, number: int, file: str) -> str:
    """Of the teacher's draws at a candidate's setting in this seed: `number` rows in `file`."""
    label, horizon = candidate.label, results.ground_truth.horizon
    teacher = next(one for one in results.teacher if one.seed == seed and one.selectivity == candidate.setting)
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
        f"Per sequence: entropy {_estimate(teacher.entropy)} nats, log-probability under p* "
        f"{_estimate(teacher.precision)} nats, "
        f"{_estimate(teacher.mean_length)} tokens (± one standard error, the first "
        f"{teacher.entropy.n} draws).",
        _ground_truth(results, origin.licence),
        "## Columns",
        "\n".join(["| column | what it is |", "|---|---|", *rows]),
        "Train on the ids: text that is tokenised again is other tokens, and a trainer that reads text appends a "
        "stopping token to "
        "sequences that were cut. TRL's `SFTTrainer` takes `input_ids` and `labels` as they are.",
        "## How it was made",
        f"{_teacher(results, teacher, origin)} {_by(results, origin)}",
    )


def _card(kind: type[RepoCard], data: CardData, *parts: str) -> str:
    return str(kind(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _ground_truth(results: Results, licence: str | None) -> str:
    truth = results.ground_truth
    after = f"the prompt {truth.prompt!r}" if truth.prompt is not None else f"{truth.prompts} prompts in turn"
    return (
        f"**p\\***, the distribution to be learnt: {truth.name} (`{truth.reference}`), at most {truth.horizon} tokens "
        f"after {after}, entropy {_estimate(truth.entropy)} nats per sequence (± one standard error). "
        f"Licence of p\\*: {licence or 'not known here; ask where it comes from'}."
    )


def _measured(results: Results, students: list[Student], student: Student) -> str:
    """This student, and the same candidate over all seeds."""
    rows = [f"| | this one, seed {student.seed} | {results.seeds} seeds |", "|---|---|---|"]
    for (name, quantity), over_seeds in zip(COLUMNS.items(), cells(students), strict=True):
        column = name.replace("*", chr(92) + "*")
        rows.append(f"| {column} | {_estimate(quantity(student))} | {true_minus(over_seeds)} |")
    n = student.recall.n
    note = (
        f"In {results.unit} (length: tokens). This one: ± one standard error over {n} draws of each side; seeds: "
        "mean ± 95% t-interval"
        if results.seeds > 1
        else (
            f"In {results.unit} (length: tokens), ± one standard error over {n} draws of each side; one seed, "
            "so no interval"
        )
    )
    return "\n".join(
        [*rows, "", f"{note}. P is the student's draws under p\\*, R p\\*'s draws under the student; higher is better."]
    )


def _gate(student: Student) -> str:
    z = student.sampler_check.candidate
    said = true_minus(f"z = {z:.2f}") if isinstance(z, float) else z
    again = "Its draws, scored again, gave their recorded probabilities"
    return f"{again}, and their total agrees with its own expectation ({said}; 4 would stop a run)."


def _made(results: Results, student: Student, origin: Origin) -> str:
    truth, checkpoint, candidate = results.ground_truth, student.checkpoint, student.candidate
    if candidate.role == "direct":
        teacher, source = "", f"{truth.num_train:,} sequences of p\\*"
    else:
        teacher = _teacher(results, results.teacher[0], origin) + " "
        source = f"{results.num_distill:,} sequences that the teacher drew at {candidate.label}"
    if not checkpoint:
        return f"{teacher}The student was kept as it was: {_start('student', origin)}. {_by(results, origin)}"
    return (
        f"{teacher}The student started {_start('student', origin)} and learnt {source}, {checkpoint.tokens:,} tokens "
        f"in all; kept is step {checkpoint.step}, the best on {truth.num_validation:,} held-out sequences of p\\*. "
        f"{_by(results, origin)}"
    )


def _teacher(results: Results, teacher: Teacher, origin: Origin) -> str:
    if not teacher.checkpoint:
        return f"The teacher was kept as it was: {_start('teacher', origin)}."
    return (
        f"The teacher started {_start('teacher', origin)} and learnt {results.ground_truth.num_train:,} sequences of "
        "p\\*."
    )


def _start(role: str, origin: Origin) -> str:
    return f"from `{origin.starts[role]}`" if role in origin.starts else "from scratch"


def _by(results: Results, origin: Origin) -> str:
    return (
        f"Made with Distilscope {origin.version}, recipe `{results.recipe}`; the study is that of [arXiv "
        "2505.13111](https://arxiv.org/abs/2505.13111)."
    )


def _estimate(estimate: Estimate) -> str:
    return true_minus(str(estimate))
