"""What a plan says: arithmetic that adds up, GPUs by name, the disk, and what does not fit."""

import json
from types import SimpleNamespace

import pytest

from distilscope.cli.main import main
from distilscope.errors import StoreError, UsageError
from distilscope.pipeline.step import order
from distilscope.pipeline.store import Store
from distilscope.studies.forecast import gpu_specs, plan_summary
from distilscope.studies.inputs import Sources
from distilscope.studies.overrides import override
from distilscope.studies.planner import plan
from distilscope.studies.recipes.tiny import tiny

HALF = gpu_specs.utilisation(0.5)


def described(store, config=None, **options):
    config = config or tiny()
    study = plan(config, Sources.locate(config))
    gpu = options.pop("gpu", gpu_specs.GPUS["h100"])
    clock = plan_summary.Clock("rate", lambda step: step.cost / 1e10, flops_per_second=1e10)
    return study, plan_summary.describe(study, store, **({"clock": clock, "gpu": gpu, "utilisation": HALF} | options))


def test_stages_add_up_to_the_whole_and_to_their_steps(tmp_path):
    study, found = described(Store(tmp_path))
    steps = order(study.targets)
    assert found["total"]["to_run"] == found["total"]["steps"] == len(steps)
    for name in plan_summary.SUMS:
        assert found["total"][name] == pytest.approx(sum(stage[name] for stage in found["stages"]))
    assert found["total"]["disk_bytes"] == sum(study.costs[step].disk for step in steps)
    assert found["total"]["flops"] == pytest.approx(sum(step.cost for step in steps))
    assert found["total"]["seconds"] == pytest.approx(found["total"]["flops"] / 1e10)
    checkpoints = {stage["stage"]: 0 for stage in found["stages"]}
    for step in steps:
        checkpoints[step.stage] += study.costs[step].checkpoints
    assert checkpoints["train teachers"] > 16 * study.parameters["teacher"]
    for stage in found["stages"]:
        assert stage["network_bytes"] == stage["read_bytes"] + stage["disk_bytes"] + checkpoints[stage["stage"]]
        used = gpu_specs.GPUS["h100"].flops_per_second * 0.5
        expected = stage["flops"] / used / 3600 if stage["kind"] in ("draws", "training", "scores") else 0.0
        assert stage["gpu_hours"] == pytest.approx(expected)
    teachers = next(stage for stage in found["stages"] if stage["stage"] == "train teachers")
    data = [
        source
        for step in {one.model for one in study.teachers}
        for source in step.inputs.values()
        if source.kind == "draws"
    ]
    assert teachers["read_bytes"] == sum(study.costs[source].disk for source in data)


def test_what_is_in_the_store_costs_nothing(tmp_path):
    store = Store(tmp_path)
    study, before = described(store)
    for step in study.test:
        (store.path(step)).mkdir(parents=True)
        (store.path(step) / "manifest.json").write_text("{}")
    _, after = described(store)
    stage = {row["stage"]: row for row in after["stages"]}["draw test set"]
    assert (stage["to_run"], stage["network_bytes"], stage["gpu_hours"], stage["why"]) == (0, 0, 0.0, "in the store")
    assert after["total"]["flops"] < before["total"]["flops"]


def test_processes_shorten_the_longest_chain_and_no_more(tmp_path):
    _, alone = described(Store(tmp_path))
    settings = {"teacher.training.processes": 4, "student.training.processes": 4}
    _, shared = described(Store(tmp_path), override(tiny(), settings))
    assert shared["total"]["gpu_hours"] == alone["total"]["gpu_hours"]
    assert (
        alone["total"]["gpu_hours"]
        > alone["shortest_gpu_hours"]
        > shared["shortest_gpu_hours"]
        > alone["shortest_gpu_hours"] / 4
    )


@pytest.mark.parametrize(
    ("free", "need", "fits", "says"), [(100, 100, True, ""), (99, 100, True, "warns"), (49, 100, False, "refuses")]
)
def test_a_disk_that_is_short_is_told_and_one_that_is_far_too_small_refused(
    tmp_path, monkeypatch, free, need, fits, says
):
    study, _ = described(Store(tmp_path))
    whole = sum(study.costs[step].disk for step in order(study.targets))
    usage = SimpleNamespace(free=whole * free // need)
    monkeypatch.setattr(plan_summary.shutil, "disk_usage", lambda _: usage)
    _, found = described(Store(tmp_path / "not" / "there" / "yet"))
    assert found["store"] == {
        "folder": str(tmp_path / "not/there/yet"),
        "free_bytes": usage.free,
        "suffices": says == "",
    }
    assert any("are free on the disk" in warning for warning in found["warnings"]) == (says != "")
    if fits:
        plan_summary.require_space(study, Store(tmp_path))
    else:
        with pytest.raises(
            StoreError, match=r"would write about .* are free on the disk .* lower --num-train or --horizon"
        ):
            plan_summary.require_space(study, Store(tmp_path))


def test_what_fills_a_gpu_is_told(tmp_path):
    _, found = described(Store(tmp_path), gpu=gpu_specs.GPU("small", 1e12, 1e6))
    said = [warning for warning in found["warnings"] if "'draw D'" in warning or "'train teachers'" in warning]
    assert len(said) == 2
    assert "lower slots" in said[0] + said[1]
    assert "lower training.microbatch_tokens" in said[0] + said[1]
    assert not described(Store(tmp_path))[1]["warnings"]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_above_0_and_at_most_1(share):
    with pytest.raises(UsageError, match="--utilisation is"):
        gpu_specs.utilisation(share)
    assert gpu_specs.utilisation(None)["draws"] < gpu_specs.utilisation(None)["training"]
    assert set(gpu_specs.utilisation(0.3).values()) == {0.3}


# --- the command


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, words)))
    out, err = capsys.readouterr()
    return stop.value.code, out, err


FEWER = ("--num-train", 100_000)
"""Sequences of the same length, in tiles of the same size."""


def test_the_papers_study_fits_an_h100_and_needs_a_disk(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan_summary.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**10))
    code, out, err = run(capsys, "plan", "smollm2_paper", *FEWER, "--gpu", "h100", "--utilisation", 0.3, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["total"]["gpu_hours"] == pytest.approx(found["total"]["flops"] / (0.3 * 9.89e14) / 3600, rel=1e-3)
    assert found["total"]["seconds"] == pytest.approx(3600 * found["total"]["gpu_hours"])
    assert found["time_by"] == "gpu"
    assert err.count("distilscope: ") == 1
    assert "would be written, but 10 GB are free" in err
    code, out, err = run(capsys, "plan", "smollm2_paper", *FEWER, "--gpu", "l40s")
    assert code == 0
    assert "l40s hours" in out
    assert "'draw D' would fill about" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpu", "h101"], "did you mean 'h100'"),
        (["--utilisation", "2"], "--utilisation is 2.0"),
        (["--calibrate", "--flops-per-second", "1e12"], "each say how long steps take"),
    ],
)
def test_mistakes_are_told(capsys, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "plan", "tiny", *words)
    assert (code, out) == (2, "")
    assert says in err


def test_a_run_that_cannot_fit_ends_before_it_draws(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_summary.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    code, out, err = run(capsys, "run", "tiny", "--output-dir", tmp_path / "run")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "but 1.0 kB are free on the disk" in err
    assert not (tmp_path / "run" / "store").exists()


@pytest.mark.slow
def test_a_calibrated_plan_says_what_it_measured_and_beside_what(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (3.2, 0.0, 0.0))
    words = ("tiny", "--horizon", 8, "--num-train", 256, "--num-eval", 64, "--seeds", 1, "--output-dir", tmp_path)
    code, out, err = run(capsys, "plan", *words, "--calibrate", "--json")
    assert code == 0, err
    assert "in the last minute 3.2 processes ran or waited for a core" in err
    found = json.loads(out)
    assert found["time_by"] == "calibration"
    assert all(stage["seconds"] > 0 for stage in found["stages"])
    measured = found["calibration"]
    assert 0 < measured["predicted_seconds"] <= found["total"]["seconds"] + 60
    assert {"train teachers", "train students", "score students' draws"} <= set(measured["rates"])
    assert not (tmp_path / "store").exists()
