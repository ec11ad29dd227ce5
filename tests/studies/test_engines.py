"""Which engine runs a study, and with which resources, is said and refused where it must be, and changes no step."""

from __future__ import annotations

from dataclasses import replace

import pytest

import distilscope
from distilscope.cli.main import main
from distilscope.errors import UsageError
from distilscope.pipeline.step import order
from distilscope.studies import run
from distilscope.studies.config import Resources
from distilscope.studies.inputs import Sources
from distilscope.studies.planner import plan
from distilscope.studies.recipes.tiny import tiny
from distilscope.system import cpu_count


def test_resources_change_no_fingerprint():
    config = tiny()
    plain, on_gpus = (
        plan(replace(config, resources=Resources(train_gpus=gpus)), Sources.locate(config)) for gpus in (0, 2)
    )
    steps = order(on_gpus.targets)
    assert [step.fingerprint for step in steps] == [step.fingerprint for step in order(plain.targets)]
    assert {step.kind for step in steps if step.needs.gpus == 2} == {"training"}
    assert {step.needs.gpus for step in steps if step.kind != "training"} == {0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "rey"}, "unknown engine 'rey'; did you mean 'ray'"),
        ({"ray_address": "here:1"}, "the engine is local; give --engine ray with it"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_from_python_the_same_is_refused(tmp_path, options, told):
    with pytest.raises(UsageError, match=told):
        distilscope.run("tiny", output_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "told"), [("3", "--workers is 3, but there are cores for 2, so 2 will run"), ("2", "")]
)
def test_more_workers_than_cores_are_reduced_with_a_word(asked, told, tmp_path, monkeypatch, capsys):
    class Stop(Exception):  # noqa: N818
        pass

    def stop(*_, **options):
        assert options["workers"] == int(asked)
        raise Stop

    monkeypatch.setattr(cpu_count, "cpu_count", lambda: 2)
    monkeypatch.setattr(run, "run_study", stop)
    monkeypatch.setenv("DISTILSCOPE_TRACEBACK", "1")
    with pytest.raises(Stop):
        main(["run", "tiny", "--workers", asked, "--output-dir", str(tmp_path)])
    assert told in capsys.readouterr().err
