"""`gc`, `verify` of runs that are under way, and what `--repair` takes away; the runs here are of steps that compute
nothing."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from distilscope.cli.main import main
from distilscope.errors import StoreError
from distilscope.lm.training.checkpoint_file import write_checkpoint
from distilscope.pipeline.retention import retaining
from distilscope.pipeline.step import Step
from distilscope.pipeline.store import Store
from distilscope.studies.integrity import clear_damage

A, B, C, D = (Step("training", {"number": number}, {}, 1) for number in range(4))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISTILSCOPE_STORE", raising=False)
    return tmp_path


def command(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def run(folder: str, steps, *, store: str | None = None, unfinished=()) -> Store:
    place = Store(Path(store) if store else Path(folder) / "store")
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        with retaining(place, Path(folder), [*steps, *unfinished]):
            for step in steps:
                with place.writing(step) as output:
                    (output / "a.txt").write_text("hello" * 1000)
            assert not unfinished
    except AssertionError:
        pass  # as a run that was killed
    return place


@pytest.fixture
def typed(monkeypatch):
    """What a person types at the terminal."""

    def typing(text: str) -> None:
        terminal = io.StringIO(text)
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", terminal)

    return typing


# gc


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_gc_says_what_and_asks_first(capsys, typed, answer, gone):
    store = run("runs/x", [A, B])
    run("runs/x", [B])
    typed(answer)
    code, out, err = command(capsys, "gc", "runs/x")
    assert code == 0
    assert f"{store.path(A)}: no kept run needs it" in out
    assert "1 to remove of" in out
    assert err == "Remove them? [y/N] "
    assert out.splitlines()[-1] == ("removed" if gone else "nothing was removed")
    assert (store.has(A), store.has(B)) == (not gone, True)


def test_gc_without_a_terminal_needs_a_word(capsys):
    store = run("runs/x", [A, B])
    run("runs/x", [B])
    code, _, err = command(capsys, "gc", "runs/x")
    assert code == 2
    assert "give --yes, or --dry-run" in err
    code, out, _ = command(capsys, "gc", "runs/x", "--dry-run")
    assert code == 0
    assert store.path(A).name in out
    assert store.has(A)
    assert command(capsys, "gc", "runs/x", "--yes")[0] == 0
    assert not store.has(A)
    assert command(capsys, "gc", "runs/x")[0] == 0, "nothing to remove is nothing to ask about"


def test_gc_prints_json_alone(capsys):
    store = run("runs/x", [A, B])
    run("runs/x", [B])
    (store.root / ".partial" / "half").mkdir(parents=True)
    code, out, err = command(capsys, "gc", "runs/x", "--json")
    assert (code, out) == (2, "")
    for options, removed in ((["--dry-run"], False), (["--yes"], True)):
        code, out, err = command(capsys, "gc", "runs/x", *options, "--json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        (one,) = document["stores"]
        assert one["store"] == str(store.root)
        assert one["retained_runs"] == [str(Path("runs/x").resolve())]
        assert {(Path(each["path"]).name, each["why"]) for each in one["rubbish"]} == {
            (A.fingerprint, "no kept run needs it"),
            ("half", "left half-written"),
        }
        assert one["bytes"] == document["bytes"] > 5000
        assert one["removed"] is removed
    assert not store.has(A)
    assert not (store.root / ".partial" / "half").exists()


def test_gc_of_a_shared_store_leaves_what_another_run_needs(capsys, monkeypatch):
    store = run("runs/x", [A, B], store="shared")
    run("elsewhere/y", [B, C], store="shared")
    run("runs/z", [C], store="shared", unfinished=[D])
    monkeypatch.setenv("DISTILSCOPE_STORE", "shared")
    assert "0 to remove" in command(capsys, "gc")[1]
    shutil.rmtree("runs/x")
    assert command(capsys, "gc", "--yes")[0] == 0
    assert (store.has(A), store.has(B), store.has(C)) == (False, True, True)
    shutil.rmtree("elsewhere")  # the folder above is gone too: perhaps a disk that is not there
    code, out, _ = command(capsys, "gc", "--yes")
    assert code == 0
    assert "(cannot be seen from here; noted in " in out
    assert store.has(B)


def test_gc_finds_the_stores_of_the_runs_that_are_here(capsys):
    one, other = run("runs/x", [A, B]), run("runs/y", [A])
    run("runs/x", [B])
    assert command(capsys, "gc", "--yes")[0] == 0
    assert (one.has(A), one.has(B), other.has(A)) == (False, True, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is no run in the folder runs here"),
        (["no/such/run"], "there is no folder no/such/run"),
        (["empty"], "there is no store at empty/store"),
        (["bare"], "no run has noted what it needs of shared"),
        (["unknown"], "unknown is no finished run"),
    ],
)
def test_gc_removes_nothing_where_nothing_says_what_is_needed(capsys, monkeypatch, words, says):
    Path("empty").mkdir()
    for name in ("bare", "unknown"):
        place = run(name, [A], store="shared" if name == "bare" else None)
        shutil.rmtree(place.root / ".runs")
    if words == ["bare"]:
        monkeypatch.setenv("DISTILSCOPE_STORE", "shared")
        words = []
    code, out, err = command(capsys, "gc", *words, "--yes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert Store("shared").has(A)
    assert Store("unknown/store").has(A)


# verify, and what --repair takes away


def checkpoint(store: Store, step: Step) -> Path:
    write_checkpoint(store.scratch(step), {"step": 3}, {"weight": torch.arange(100.0)})
    return store.scratch(step) / "checkpoint.safetensors"


def flip(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[-20] ^= 4
    file.write_bytes(whole)


def test_verify_of_a_run_that_is_not_finished_looks_at_what_there_is(capsys):
    store = run("x", [A, B], unfinished=[C, D])
    file = checkpoint(store, C)
    code, out, _ = command(capsys, "verify", "x")
    assert code == 0
    assert out.splitlines() == [
        f"4 artifacts in {store.root}, 0 problems",
        "2 of them are not made yet: give the same `distilscope run` command again to finish it",
    ]
    flip(file)
    flip(store.path(A) / "a.txt")
    code, out, _ = command(capsys, "verify", "x")
    assert code == 1
    assert f"{file}: is not as it was written; its training will start again" in out
    assert f"{store.path(A) / 'a.txt'}: has changed since it was written" in out
    assert "with --repair" in out
    code, out, err = command(capsys, "verify", "x", "--json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    assert (document["artifacts"], document["unfinished"], len(document["problems"])) == (4, 2, 2)


def test_exactly_what_is_damaged_is_taken_away():
    store = run("x", [A, B], unfinished=[C, D])
    files = [checkpoint(store, C), checkpoint(store, D)]
    flip(files[0])
    flip(store.path(B) / "manifest.json")
    said: list[str] = []
    with store.lock():
        clear_damage(store, [A, B, C, D], said.append)
    assert [line.split(": ")[1] for line in said[:-1]] == [str(store.path(B) / "manifest.json"), str(files[0])]
    assert said[-1] == "4 artifacts, 1 damaged; 3 will be made"
    assert (store.has(A), store.path(B).exists(), files[0].exists(), files[1].exists()) == (True, False, False, True)
    assert store.verify([A]) == []


def test_a_link_in_an_artifacts_place_goes_and_what_it_leads_to_stays():
    store = run("x", [A, B])
    store.path(A).rename("outside")
    store.path(A).symlink_to(Path("outside").absolute())
    with store.lock():
        clear_damage(store, [A, B], lambda _: None)
    assert not store.path(A).is_symlink()
    assert Path("outside/a.txt").exists()
    store.path(B).parent.rename("kind")
    store.path(B).parent.symlink_to(Path("kind").absolute())
    with store.lock(), pytest.raises(StoreError, match="put the folder itself there, or remove the link"):
        clear_damage(store, [B], lambda _: None)
    assert (Path("kind") / B.fingerprint / "a.txt").exists()
