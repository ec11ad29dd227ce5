"""The practitioner's own study: pretrained models and ones from scratch, one's own prompts, and real data in place of
p*."""

from __future__ import annotations

import json

import matplotlib.image
import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedTokenizerFast

from distilscope.cli.main import main
from distilscope.evaluation.documents import record_of
from distilscope.evaluation.results import Results
from distilscope.lm.sequences import Sequences
from distilscope.pipeline.store import Store
from distilscope.report.figures.figure4 import figure4
from distilscope.studies.config import Distillation
from distilscope.studies.recipes import recipe
from distilscope.studies.run import recorded
from tiny_folders import TEXT, trained_bpe, write_small_folder

pytestmark = pytest.mark.usefixtures("steps_here")

QUICK = {
    "--seeds": 1,
    "--num-train": 64,
    "--num-eval": 32,
    "--ground-truth.num-validation": 16,
    "--num-teacher-eval": 32,
    "--horizon": 8,
    "--tile": 32,
    "--slots": 16,
    "--temperatures": (0.7, 1.0),
    "--ground-truth.dtype": "float32",
    "--teacher.dtype": "float32",
    "--student.dtype": "float32",
    "--student": "scratch:32x1",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """p* `big`, another Llama over its tokens `other`, a GPT-2 over them `gpt2`, and a Llama over other tokens
    `foreign`."""
    folder = tmp_path_factory.mktemp("models")
    write_small_folder(folder / "big")
    write_small_folder(folder / "other", hidden_size=48, head_dim=12)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=320, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    trained_bpe().save(str(folder / "gpt2" / "tokenizer.json"))
    write_small_folder(folder / "foreign", vocab_size=330)
    trained_bpe(merges=63, end="<|stop|>").save(str(folder / "foreign" / "tokenizer.json"))
    return folder


@pytest.fixture
def run(capsys):
    def call(*words, code=0, command="run"):
        with pytest.raises(SystemExit) as stop:
            main([command, *map(str, words)])
        out, err = capsys.readouterr()
        assert stop.value.code == code, err
        return json.loads(out) if code == 0 and out.startswith("{") else out if code == 0 else err

    return call


def words(settings):
    return [
        word for name, value in settings.items() for word in (name, *(value if isinstance(value, tuple) else (value,)))
    ]


def prompts_file(path, *prompts):
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return path


def draws(store):
    return [Sequences.load(path) for path in sorted(store.glob("draws/*/sequences.safetensors"))]


# --- how much is trained, by where a model starts


@pytest.mark.parametrize(
    ("starts", "teacher_epochs", "student_epochs"),
    [
        ({}, 4, 4),
        ({"teacher.reference": "REF"}, 0, 4),
        ({"teacher.reference": ["REF"], "student.reference": "REF"}, 0, 1),
        ({"teacher.reference": "scratch:96x3", "student.reference": "scratch:64x2"}, 4, 4),
    ],
)
def test_defaults_follow_the_references(starts, teacher_epochs, student_epochs):
    config = recipe("distil", starts)
    assert isinstance(config, Distillation)
    assert (config.teacher.training.epochs, config.student.training.epochs) == (teacher_epochs, student_epochs)
    if student_epochs == 1:
        assert config.student.training.learning_rate < recipe("distil").student.training.learning_rate / 10


def test_scratch_sizes_are_kept_as_sizes(models, run):
    plan = run(
        "distil", *words(QUICK), "--reference", models / "big", "--teacher", "scratch:96x3", "--json", command="plan"
    )
    teacher = plan["config"]["teacher"]
    assert (teacher["reference"], teacher["size"]["hidden_size"], teacher["size"]["layers"]) == ("", 96, 3)
    assert teacher["training"]["epochs"] > 0
    assert plan["config"]["student"]["size"]["hidden_size"] == 32


# --- whole studies, at seconds


@pytest.mark.slow
def test_a_pretrained_teacher_is_kept_and_prompts_are_context_alone(models, run, tmp_path):
    file = prompts_file(tmp_path / "prompts.jsonl", "The teacher", "Precision", "There is")
    out = tmp_path / "run"
    results = run(
        *("distil", *words(QUICK), "--reference", models / "big", "--teacher", models / "other"),
        *("--prompts", file, "--output-dir", out, "--json"),
    )
    assert results["ground_truth"]["prompts"] == 3
    assert all(teacher["checkpoint"] is None for teacher in results["teacher"])
    assert all(student["checkpoint"]["tokens"] > 0 for student in results["students"])
    tokenizer = trained_bpe()
    for one in draws(out / "store"):
        assert one.prompts == tuple(
            tuple(tokenizer.encode(text).ids) for text in ("The teacher", "Precision", "There is")
        )
        assert len(one.ids) == one.lengths.sum() <= 8 * len(one)
    # 64 sequences of at most 8 tokens, four epochs: no prompt was trained on
    assert max(student["checkpoint"]["tokens"] for student in results["students"]) <= 4 * 64 * 8
    (imported,) = [path for path in (out / "store" / "model").iterdir() if path.is_dir()]
    kept = transformers.LlamaForCausalLM.from_pretrained(imported).state_dict()
    before = transformers.LlamaForCausalLM.from_pretrained(models / "other").state_dict()
    assert all(torch.equal(kept[name], before[name]) for name in before)
    assert "0 problems" in run(out, command="verify")
    again = run(
        *("distil", *words(QUICK), "--reference", models / "big", "--teacher", models / "other"),
        *("--prompts", file, "--output-dir", out, "--json"),
    )
    assert again == results


@pytest.mark.slow
def test_a_teacher_that_is_p_star_draws_from_the_selected_p_star(models, run, tmp_path):
    results = run(
        "distil",
        *words(QUICK),
        "--reference",
        models / "big",
        "--teacher",
        models / "big",
        "--output-dir",
        tmp_path,
        "--json",
    )
    at = {teacher["temperature"]: teacher for teacher in results["teacher"]}
    assert at[1.0]["precision"]["mean"] == pytest.approx(-at[1.0]["entropy"]["mean"], abs=1e-3)
    assert at[0.7]["entropy"]["mean"] < at[1.0]["entropy"]["mean"]
    assert at[0.7]["precision"]["mean"] > at[1.0]["precision"]["mean"]


@pytest.mark.slow
def test_everything_pretrained_and_an_untrained_teacher_of_any_architecture(models, run, tmp_path):
    settings = QUICK | {"--reference": models / "gpt2", "--teacher": models / "gpt2", "--student": models / "other"}
    results = run("distil", *words(settings), "--output-dir", tmp_path, "--json")
    assert results["ground_truth"]["vocabulary"] == 320
    assert all(student["checkpoint"]["step"] <= 2 for student in results["students"])


@pytest.mark.slow
def test_a_chat_template_is_put_around_prompts(models, run, tmp_path):
    write_small_folder(tmp_path / "chat")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained_bpe())
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}{% if add_generation_prompt %} [me]{% "
        "endif %}"
    )
    tokenizer.save_pretrained(tmp_path / "chat")
    file = prompts_file(tmp_path / "prompts.jsonl", "Why", "Who")
    run(
        *("distil", *words(QUICK), "--reference", tmp_path / "chat", "--teacher", models / "other", "--chat-template"),
        *("--prompts", file, "--output-dir", tmp_path / "run", "--json"),
    )
    expected = tuple(tuple(trained_bpe().encode(f"[user] {text} [me]").ids) for text in ("Why", "Who"))
    assert all(one.prompts == expected for one in draws(tmp_path / "run" / "store"))


# --- real data in place of p*


def data_file(path, rows=120):
    """Words of the text, after two prompts; one completion is longer than any horizon."""
    said = TEXT.split()
    written = [
        {"prompt": ("The", "Who")[i % 2], "completion": " " + " ".join(said[i % 40 : i % 40 + 1 + i % 3])}
        for i in range(rows - 1)
    ]
    lines = [json.dumps(row) for row in [*written, {"completion": " " + TEXT.replace("\n", " "), "prompt": "The"}]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def on_data(models, tmp_path_factory):
    """A finished study on data: its folder, results, and the words that started it."""
    folder = tmp_path_factory.mktemp("data")
    settings = QUICK | {
        "--reference-draws": data_file(folder / "data.jsonl"),
        "--teacher": models / "other",
        "--seeds": 2,
    }
    command = ["distil", *map(str, words(settings | {"--output-dir": folder / "run", "--sweep.num-distill": 32}))]
    with pytest.raises(SystemExit) as stop:
        main(["run", *command, "--json"])
    assert stop.value.code == 0
    return folder / "run", json.loads((folder / "run" / "results.json").read_text()), command


@pytest.mark.slow
class TestReferenceDraws:
    def test_recall_is_that_of_plain_transformers(self, on_data):
        folder, results, _ = on_data
        steps, store = recorded(folder), Store(folder / "store")
        (test,) = [Sequences.load(store.path(step) / "sequences.safetensors") for step in steps.test]
        for record, student in zip(results["students"], steps.students, strict=True):
            network = transformers.LlamaForCausalLM.from_pretrained(store.path(student.model)).eval()
            total = []
            for row, which in zip(test, test.prompt_of, strict=True):
                prompt = test.prompts[which]
                with torch.inference_mode():
                    log_q = (
                        network(torch.tensor([[*prompt, *row.tolist()]]))
                        .logits[0, len(prompt) - 1 : -1]
                        .double()
                        .log_softmax(-1)
                    )
                total.append(float(log_q.gather(1, torch.from_numpy(row.astype(np.int64))[:, None]).sum()))
            assert record["recall"]["mean"] == pytest.approx(np.mean(total), abs=1e-3)
            assert record["recall"]["n"] == 32

    def test_what_needs_a_model_is_not_available(self, on_data):
        _, results, _ = on_data
        absent = {"mean": None, "stderr": None, "n": 0, "not_available": True}
        for student in results["students"]:
            for name in ("precision", "reference_entropy", "kl_candidate_reference", "kl_reference_candidate"):
                assert student[name] == absent
            assert student["candidate_entropy"]["mean"] > 0
        assert results["ground_truth"]["entropy"] == absent
        assert results["ground_truth"]["sampler_check"] == "not available"
        assert results["trade_off"]["verdict"] == "not shown"
        assert "p* is data" in results["trade_off"]["reason"]
        assert results["recommendation"]["setting"] is None

    def test_the_three_sets_are_disjoint_rows_of_the_file(self, on_data):
        folder, _, _ = on_data
        data = [Sequences.load(path) for path in (folder / "store" / "data").glob("*/sequences.safetensors")]
        assert sorted(map(len, data)) == [16, 32, 32, 32]
        assert all(one.log_prob is None for one in data)
        for one in data:
            ends = one.ids[one.offsets[1:] - 1] == 0
            assert np.array_equal(ends, one.ended)
            assert np.all(one.lengths[~one.ended] == 8)

    def test_it_is_verified_reused_and_printed(self, on_data, run):
        folder, results, command = on_data
        assert "0 problems" in run(folder, command="verify")
        assert run(*command, "--json") == results
        text = run(*command)
        for said in (
            "not available",
            "|D'| = 32",
            "H(p*) = not available",
            "Trade-off: not shown (p* is data",
            "No recommendation",
        ):
            assert said in text

    def test_no_setting_is_recommended(self, on_data, run):
        folder, _, _ = on_data
        assert "p* is data" in run(folder, command="recommend", code=2)

    def test_only_recall_is_drawn(self, on_data):
        folder, results, _ = on_data
        (panel,) = figure4(record_of(results, Results), 6.75).axes
        assert panel.get_title().startswith("recall")
        assert matplotlib.image.imread(folder / "figure4.png").shape[1] < 0.6 * 6.75 * 300


# --- what is refused, at once and plainly


@pytest.fixture
def bad(models, tmp_path):
    """Each mistake: settings, and what is said."""
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "neither.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "both.jsonl").write_text('{"completion": "a", "ids": [3]}\n')
    long = prompts_file(tmp_path / "long.jsonl", "The", "so long " * 40)
    few = data_file(tmp_path / "few.jsonl", rows=50)
    big, other, gpt2 = models / "big", models / "other", models / "gpt2"
    return {
        "no reference": ({}, "give --reference REF"),
        "scratch of no size": ({"--reference": big, "--student": "scratch:abc"}, "'abc' is not WIDTHxLAYERS"),
        "no such teacher": ({"--reference": big, "--teacher": "no/such"}, "there is no model at 'no/such'"),
        "teacher of another architecture, trained": (
            {"--reference": big, "--teacher": gpt2, "--teacher.training.epochs": 1},
            "no plain Llama, and only those are trained here",
        ),
        "student of another architecture": (
            {"--reference": big, "--student": gpt2},
            "no plain Llama, and only those are trained here",
        ),
        "teacher with other tokens": ({"--reference": big, "--teacher": models / "foreign"}, "has 330"),
        "prompts missing": ({"--reference": big, "--prompts": tmp_path / "no.jsonl"}, "cannot be read"),
        "prompt too long": ({"--reference": big, "--prompts": long, "--horizon": 16}, "prompt 2"),
        "horizon too long": ({"--reference": big, "--horizon": 100000}, "exceed the model's context"),
        "epochs 0 from scratch": ({"--reference": big, "--teacher.training.epochs": 0}, "must be trained"),
        "sizes of a pretrained student": (
            {"--reference": big, "--student": other, "--sweep.student-sizes": "48x1"},
            "leave out one",
        ),
        "empty data": ({"--reference-draws": tmp_path / "empty.jsonl", "--teacher": other}, "holds no rows"),
        "data without completions": (
            {"--reference-draws": tmp_path / "neither.jsonl", "--teacher": other},
            "neither completion nor ids",
        ),
        "data with both": (
            {"--reference-draws": tmp_path / "both.jsonl", "--teacher": other},
            "both completion and ids",
        ),
        "no data": ({"--reference-draws": tmp_path / "no.jsonl", "--teacher": other}, "cannot be read"),
        "too little data": ({"--reference-draws": few, "--teacher": other}, "needs 112 rows"),
        "data and a teacher from scratch": ({"--reference-draws": few}, "give --teacher REF"),
        "data and a model": ({"--reference-draws": few, "--reference": big, "--teacher": other}, "give one of the two"),
    }


CASES = [
    *("no reference", "scratch of no size", "no such teacher", "teacher of another architecture, trained"),
    *(
        "student of another architecture",
        "teacher with other tokens",
        "prompts missing",
        "prompt too long",
        "horizon too long",
    ),
    *(
        "epochs 0 from scratch",
        "sizes of a pretrained student",
        "empty data",
        "data without completions",
        "data with both",
        "no data",
    ),
    *("too little data", "data and a teacher from scratch", "data and a model"),
]


@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_refused_before_anything_is_drawn(case, bad, run, tmp_path):
    settings, says = bad[case]
    error = run("distil", *words(QUICK | settings), "--output-dir", tmp_path / "run", code=2)
    assert says in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not list((tmp_path / "run").glob("store/*/*/manifest.json"))
