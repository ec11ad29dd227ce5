"""`auto` dtypes are settled by the device that computes: what this machine is good at changes nothing planned for
another."""

import json

import pytest
import torch

from distilscope.cli.main import main
from distilscope.lm.device import fast_dtype
from distilscope.lm.dtypes import AutoDtypes
from distilscope.studies import run
from distilscope.studies.inputs import Sources
from distilscope.studies.planner import asks_for_auto, plan, resolve
from distilscope.studies.recipes import recipe

HARDWARE = {
    "a processor without bfloat16": ((), None, "float32"),
    "a processor with AVX-512 bfloat16": (("_is_avx512_bf16_supported",), None, "bfloat16"),
    "a processor with AMX": (("_is_amx_tile_supported",), None, "bfloat16"),
    "a GPU with bfloat16": ((), True, "bfloat16"),
    "a GPU that only emulates it, beside a processor with AMX": (("_is_amx_tile_supported",), False, "float32"),
}
"""What the processor says it has, what the GPU says of bfloat16 (None: there is no GPU), and what is fast there."""


@pytest.fixture(params=HARDWARE, autouse=True)
def fast(request, monkeypatch) -> str:
    """What is fast on the hardware that this machine seems to have."""
    instructions, gpu, found = HARDWARE[request.param]
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda has=name in instructions: has)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu is True or including_emulation
    )
    return found


def test_a_process_finds_what_its_device_multiplies_fast(fast):
    assert fast_dtype() == fast


def planned(capsys, *words) -> dict:
    with pytest.raises(SystemExit) as stop:
        main(["plan", *map(str, words), "--json"])
    assert stop.value.code == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", [("smollm2_paper", "--num-train", 100_000), ("tiny",)], ids=["paper", "tiny"])
def test_a_plan_for_a_gpu_is_the_same_on_every_machine(capsys, tmp_path, monkeypatch, words):
    """Bytes, memory and steps of a study in bfloat16, whatever plans it."""
    monkeypatch.chdir(tmp_path)
    found = planned(capsys, *words, "--gpu", "h100")
    config = found["config"]
    assert config["student"]["training"]["precision"] == config["teacher"]["training"]["precision"] == "bfloat16"
    by_hand = resolve(recipe(words[0]), AutoDtypes("bfloat16", "bfloat16"))
    assert config["ground_truth"]["dtype"] == by_hand.ground_truth.dtype
    assert config["student"]["dtype"] == by_hand.student.dtype


def test_a_plan_for_this_machine_is_what_a_run_here_would_do(capsys, tmp_path, monkeypatch, fast):
    monkeypatch.chdir(tmp_path)
    found = planned(capsys, "tiny", "--ground-truth.dtype", "auto", "--flops-per-second", 1e15)
    assert found["config"]["ground_truth"]["dtype"] == found["config"]["student"]["training"]["precision"] == fast


def test_what_is_settled_is_the_same_study_everywhere():
    """A finished run's configuration names every dtype, so that its steps are found again on another machine."""
    config = resolve(recipe("tiny"), AutoDtypes("bfloat16", "float32"))
    assert not asks_for_auto(config)
    sources = Sources.locate(config)
    targets = plan(config, sources).targets
    assert [step.fingerprint for step in targets] == [
        step.fingerprint for step in plan(recipe("tiny"), sources, auto=AutoDtypes("bfloat16", "float32")).targets
    ]


@pytest.mark.parametrize(
    ("answers", "settled"),
    [
        ([["bfloat16", "bfloat16"], ["bfloat16"]], AutoDtypes("bfloat16", "bfloat16")),
        ([["bfloat16", "float32"], ["bfloat16"]], AutoDtypes("float32", "bfloat16")),
        ([["float32"], []], AutoDtypes("float32", "float32")),
    ],
)
def test_a_cluster_settles_by_its_slowest_node_and_the_driver_has_no_say(monkeypatch, answers, settled):
    monkeypatch.setattr(run, "ask_nodes", lambda *_: answers)
    assert run._cluster_dtypes(recipe("tiny"), "host:6379") == settled
