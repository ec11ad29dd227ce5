"""Kinds of steps: what stands in the file of a kind is all that planning, the plan and running know of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from distilscope.pipeline.execute import execute
from distilscope.pipeline.progress import SilentWatcher
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies import planner
from distilscope.studies.costs import Cost
from distilscope.studies.forecast import gpu_specs, plan_summary
from distilscope.studies.forecast.calibration import work_of
from distilscope.studies.inputs import Sources
from distilscope.studies.integrity import damaged_checkpoints
from distilscope.studies.recipes.tiny import tiny
from distilscope.studies.steps.registry import KINDS, StepKind, functions, register
from distilscope.studies.steps.train import TRAINING

VERSIONS = {"ground_truth": 1, "model": 1, "prompts": 1, "data": 1, "draws": 9, "training": 8, "scores": 7}


@pytest.fixture
def toy(monkeypatch):
    """The kind of a file that nothing of the package names; it registers itself."""
    monkeypatch.delitem(sys.modules, "toy_step", raising=False)
    yield import_module("toy_step").TOY
    del KINDS["toy"]


@pytest.fixture
def study(toy):
    """The tiny study with a step of that kind among its targets."""
    config = tiny()
    study = planner.plan(config, Sources.locate(config))
    cost = toy.cost(texts=2)
    step = toy.step({"letter": "p"}, {"prompts": study.prompts}, "count letters", cost)
    first, *others = study.students
    return (
        replace(
            study,
            students=(replace(first, scores=(*first.scores, step)), *others),
            costs={**study.costs, step: cost},
        ),
        step,
    )


def test_a_kind_is_planned_and_forecast_from_its_own_file(study, tmp_path):
    study, step = study
    gpu = gpu_specs.GPU("small", 1e12, 1e8)
    used = gpu_specs.utilisation(None)
    clock = plan_summary.Clock("gpu", lambda each: plan_summary.gpu_seconds(each, gpu, used))
    found = plan_summary.describe(study, Store(tmp_path), clock=clock, gpu=gpu, utilisation=used)
    stage = next(row for row in found["stages"] if row["stage"] == "count letters")
    assert (stage["kind"], stage["steps"], stage["tokens"], stage["disk_bytes"]) == ("toy", 1, 2, 8)
    assert stage["flops"] == 2e12
    assert stage["gpu_hours"] == pytest.approx(2e12 / (1e12 * 0.5) / 3600)
    assert (stage["utilisation"], found["gpu"]["utilisation"]["toy"]) == (0.5, 0.5)
    assert gpu_specs.utilisation(0.3)["toy"] == 0.3
    assert any("'count letters' would fill" in said and "lower tile_of_toys" in said for said in found["warnings"])
    assert work_of(step) == "count letters"


def test_a_kind_runs_and_its_version_is_in_the_fingerprint(study, toy, tmp_path):
    study, step = study
    assert step.identity.code_version == 3
    newer = replace(toy, version=4).step(step.config, step.inputs, step.stage, study.costs[step])
    assert newer.fingerprint != step.fingerprint
    store = Store(tmp_path)
    records = execute([step], store, work=functions(), workers=1, watch=SilentWatcher())
    assert [record.kind for record in records] == ["ground_truth", "prompts", "toy"]
    assert int((store.path(step) / "count.txt").read_text()) > 0


def test_a_name_belongs_to_one_kind(toy):
    assert register(toy) is toy
    with pytest.raises(ValueError, match="toy_step:count_tokens is; give it another name"):
        register(replace(toy, function="elsewhere:work"))


def test_the_kinds_of_a_study_are_those_that_stores_hold():
    assert {name: KINDS[name].version for name in VERSIONS} == VERSIONS
    for kind in KINDS.values():
        module, _, name = kind.function.partition(":")
        assert callable(getattr(import_module(module), name))
        owners = [each for each in vars(import_module(module)).values() if isinstance(each, StepKind)]
        assert kind in owners, f"{kind.name} is not in the file that does its work"


def test_trainings_that_differ_in_their_processes_go_on_from_one_another():
    def training(**changes) -> Step:
        config = {"training": {"epochs": 2, "processes": 1} | changes, "sequences": 4}
        return TRAINING.step(config, {}, "train", Cost())

    one, two, longer = training(), training(processes=2), training(epochs=3)
    assert one.fingerprint != two.fingerprint
    assert one.local == two.local != longer.local


def test_only_what_can_be_resumed_has_a_checkpoint_that_can_be_damaged(tmp_path, toy):
    store = Store(tmp_path)
    scratch = tmp_path / ".scratch" / "abc"
    scratch.mkdir(parents=True)
    (scratch / "checkpoint.safetensors").write_bytes(b"half of it")
    assert damaged_checkpoints(store, [(toy.name, "abc"), ("of another version", "abc"), ("training", "none")]) == []
    (problem,) = damaged_checkpoints(store, [("training", "abc")])
    assert "its training will start again" in str(problem)


def test_the_files_of_steps_load_no_library_until_a_step_runs():
    folder = Path(import_module("distilscope.studies.steps").__path__[0])
    names = sorted(file.stem for file in folder.glob("*.py") if file.stem not in ("__init__", "train_worker"))
    code = f"""
import sys
from importlib import import_module
for name in {names}:
    import_module("distilscope.studies.steps." + name)
from distilscope.studies.steps.registry import KINDS
assert set(KINDS) == {set(VERSIONS)}, set(KINDS)
heavy = {{"torch", "numpy", "numba", "tokenizers", "transformers", "safetensors"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
