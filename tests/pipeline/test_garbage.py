"""What `gc` may remove, and above all what it may not."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work import lone, plan, tree

from distilscope.errors import StoreError
from distilscope.pipeline.checksummed_json import dump_checksummed
from distilscope.pipeline.garbage import Garbage, find_garbage, remove_garbage
from distilscope.pipeline.retention import retained_run, retained_runs, retaining
from distilscope.pipeline.step import Step, order
from distilscope.pipeline.store import Store

STEPS = order(plan())


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def fill(store: Store, steps) -> None:
    for step in steps:
        with store.writing(step) as folder:
            (folder / "a.txt").write_text("hello")


def run(store: Store, folder: Path, steps) -> Path:
    """A run that was finished in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with retaining(store, folder, steps):
        fill(store, steps)
    return folder


def struck(store: Store, folder: Path, steps, made=()) -> None:
    """A run that was killed."""
    with suppress(KeyboardInterrupt), retaining(store, folder, steps):
        fill(store, made)
        raise KeyboardInterrupt


def kept_file(store: Store, name: str) -> str:
    return next(one.file.name for one in retained_runs(store) if one.folder.name == name)


def rubbish(store: Store, **options) -> list[Garbage]:
    with store.lock(sweep=False):
        return find_garbage(store, retained_runs(store), **options)


def clear(store: Store) -> None:
    with store.lock(sweep=False):
        remove_garbage(store, find_garbage(store, retained_runs(store)))


def artifacts(store: Store) -> set[str]:
    return {path.parent.name for path in store.root.glob("[!.]*/*/manifest.json")}


def fingerprints(steps) -> set[str]:
    return {step.fingerprint for step in steps}


number = itertools.count()


@settings(max_examples=15)
@given(
    runs=st.lists(
        st.tuples(st.sets(st.sampled_from(STEPS)), st.booleans(), st.sets(st.sampled_from(STEPS))),
        min_size=1,
        max_size=3,
    ),
    others=st.sets(st.sampled_from(STEPS)),
)
def test_what_any_kept_run_needs_stays_and_all_else_goes(tmp_path_factory, runs, others):
    """Each run has made some of its steps; some runs are gone."""
    place = tmp_path_factory.getbasetemp() / f"stores-{next(number)}"
    store = Store(place / "store")
    for step in others.union(*(made for _, _, made in runs)):
        store.path(step).mkdir(parents=True)
        (store.path(step) / "manifest.json").touch()  # not read here
    for name, (steps, gone, _) in enumerate(runs):
        with retaining(store, place / str(name), steps):
            pass
        if not gone:
            (place / str(name)).mkdir()
    there = artifacts(store)
    needed = set().union(*(fingerprints(steps) for steps, gone, _ in runs if not gone))
    clear(store)
    assert artifacts(store) == there & needed
    assert rubbish(store) == []
    assert len(retained_runs(store)) == sum(not gone for _, gone, _ in runs)
    shutil.rmtree(place)


def test_a_run_keeps_what_its_earlier_results_need_until_the_new_ones_are_there(store, tmp_path):
    folder = run(store, tmp_path / "run", STEPS[:3])
    struck(store, folder, STEPS[2:5], made=STEPS[4:5])
    assert rubbish(store) == []
    run(store, folder, STEPS[2:5])
    assert {one.path.name for one in rubbish(store)} == fingerprints(STEPS[:2])


def test_half_written_folders_checkpoints_of_nobody_and_folders_without_a_manifest_go(store, tmp_path):
    run(store, tmp_path / "run", STEPS[:2])
    struck(store, tmp_path / "run", STEPS[:3])
    (store.root / ".partial" / "draws-0-0").mkdir(parents=True, exist_ok=True)
    (store.root / ".partial" / "draws-0-0" / "half").write_bytes(bytes(1000))
    (store.path(STEPS[0]) / "manifest.json").unlink()
    for step in STEPS[:4]:  # damaged, finished, under way, nobody's
        (store.scratch(step) / "checkpoint").write_text("x")
    found = {one.path.relative_to(store.root).as_posix(): (one.size, one.why) for one in rubbish(store)}
    assert found == {
        ".partial/draws-0-0": (1000, "left half-written"),
        f".scratch/{STEPS[1].fingerprint}": (1, "the checkpoint of a step that no kept run has under way"),
        f".scratch/{STEPS[3].fingerprint}": (1, "the checkpoint of a step that no kept run has under way"),
        f"{STEPS[0].kind}/{STEPS[0].fingerprint}": (5, "has no manifest, so it is no artifact"),
    }
    clear(store)
    assert {path.name for path in (store.root / ".scratch").iterdir()} == {STEPS[0].fingerprint, STEPS[2].fingerprint}
    assert list((store.root / ".partial").iterdir()) == []


def test_what_the_store_has_not_put_there_and_links_are_left_alone(store, tmp_path):
    run(store, tmp_path / "run", STEPS[:1])
    outside = Store(tmp_path / "outside")
    fill(outside, STEPS[1:4])
    before = tree(tmp_path / "outside")
    a, b, c = STEPS[1:4]
    store.path(a).parent.mkdir(exist_ok=True)
    store.path(a).symlink_to(outside.path(a))  # an artifact that is a link
    (store.root / "linked").symlink_to(outside.root / b.kind)  # a kind that is one
    (store.root / ".scratch").mkdir()
    (store.root / ".scratch" / c.fingerprint).symlink_to(outside.path(c))
    (store.root / ".partial").rmdir()
    (store.root / ".partial").symlink_to(outside.root)
    for name in (
        "notes.txt",
        "notes/mine.txt",
        f"{STEPS[0].kind}/README",
        ".logs/worker-0.log",
        "my notes/" + "0" * 64 + "/x",
    ):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_text("mine")
    assert rubbish(store) == []
    assert tree(tmp_path / "outside") == before


@pytest.mark.parametrize("where", ["another host", "a disk that is not there"])
def test_a_run_that_cannot_be_seen_is_kept(store, tmp_path, where, monkeypatch):
    folder = tmp_path / "disk" / "run"
    with monkeypatch.context() as patch:
        if where == "another host":
            patch.setattr(socket, "gethostname", lambda: "elsewhere")
            (tmp_path / "disk").mkdir()
        with retaining(store, folder, STEPS[:2]):
            fill(store, STEPS[:2])
    assert rubbish(store) == []
    assert not retained_runs(store)[0].gone


def test_a_run_folder_that_moved_with_its_store_is_still_that_run(tmp_path):
    folder = tmp_path / "run"
    run(Store(folder / "store"), folder, STEPS[:2])
    folder.rename(tmp_path / "moved")
    store = Store(tmp_path / "moved" / "store")
    assert rubbish(store) == []
    note = retained_run(store, tmp_path / "moved")
    assert note is not None
    assert note.folder == tmp_path / "moved"


def test_a_note_that_cannot_be_read_stops_it_all(store, tmp_path):
    run(store, tmp_path / "run", STEPS[:2])
    run(store, tmp_path / "other", STEPS[1:3])
    shutil.rmtree(tmp_path / "other")
    (note,) = [one.file for one in retained_runs(store) if one.folder.name == "run"]
    whole = note.read_text()
    forged = [
        {"folder": 3},
        *({"folder": "x", "host": "y", "artifacts": artifacts} for artifacts in (5, [3], ["../x"], ["/etc/passwd"])),
    ]
    for text in ("", "[]", whole.replace("0", "1", 1), *map(dump_checksummed, forged)):
        note.write_text(text)
        with pytest.raises(StoreError, match=r"what this run needs cannot be read.*or remove the file"):
            rubbish(store)
    assert artifacts(store) == fingerprints(STEPS[:3])
    run(store, tmp_path / "run", STEPS[:2])
    assert {one.path.name for one in rubbish(store)} == {*fingerprints(STEPS[2:3]), kept_file(store, "other")}


def test_a_note_that_stays_the_same_takes_no_lock(store, tmp_path):
    run(store, tmp_path / "run", STEPS[:2])
    with Store(store.root).lock():
        with retaining(store, tmp_path / "run", STEPS[:2]):
            pass
        with pytest.raises(StoreError, match="in use by process"), retaining(store, tmp_path / "run", STEPS[:3]):
            pass


def test_a_store_in_use_is_not_cleared(store, tmp_path):
    run(store, tmp_path / "run", STEPS[:2])
    fill(store, STEPS[2:3])
    code = """if True:
        import sys, time
        from distilscope.pipeline.store import Store
        with Store(sys.argv[1]).lock():
            print(flush=True)
            time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreError, match=f"in use by process {holder.pid}"):
            clear(store)
        holder.kill()
    assert artifacts(store) == fingerprints(STEPS[:3])


def test_a_kill_while_it_removes_leaves_no_artifact_half_there(store, tmp_path, monkeypatch):
    run(store, tmp_path / "run", STEPS[:1])
    fill(store, STEPS[1:4])

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        clear(store)
    there = [step for step in STEPS[:4] if store.path(step).exists()]
    assert len(there) == 3
    assert store.verify(there) == []
    clear(store)
    assert artifacts(store) == fingerprints(STEPS[:1])


def test_notes_are_json_that_a_person_can_read(store, tmp_path):
    step: Step = lone("fit")
    run(store, tmp_path / "run", [step])
    (file,) = (store.root / ".runs").iterdir()
    record = json.loads(file.read_text())
    assert record["artifacts"] == [f"fit/{step.fingerprint}"]
    assert record["folder"] == str(tmp_path / "run")
