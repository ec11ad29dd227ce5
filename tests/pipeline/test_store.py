from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from work import lone, plan, tree

import distilscope
from distilscope.errors import GateError, StoreError
from distilscope.pipeline import manifest
from distilscope.pipeline.checksummed_json import dump_checksummed
from distilscope.pipeline.lock import take_lock
from distilscope.pipeline.step import Step, canonical, order
from distilscope.pipeline.store import Store

SOURCES = os.pathsep.join([str(Path(distilscope.__file__).parents[1]), str(Path(__file__).parent)])


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def fill(store: Store, step: Step, text: str = "hello") -> Path:
    with store.writing(step, {"draws": 3}) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.bin").write_bytes(b"\0\1")
    return store.path(step)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process running the code; it says a line on standard output once it is where it should be."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": SOURCES}, stdout=subprocess.PIPE, text=True)


def changed(path: Path, **changes: object) -> None:
    """A manifest that somebody wrote anew, seal and all."""
    path.write_text(
        dump_checksummed(
            {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"} | changes
        )
    )


def test_an_artifact_is_a_folder_named_by_kind_and_fingerprint_with_a_manifest(store):
    source = lone("data")
    step = Step("fit", {"lr": 0.5}, {"data": source}, 7)
    assert not store.has(step)
    assert not store.root.exists()
    folder = fill(store, step)
    assert folder == store.root / "fit" / step.fingerprint
    assert store.has(step)
    assert store.verify([step]) == []
    record = store.manifest(step)
    assert record == json.loads((folder / "manifest.json").read_text())
    versions, own = record.pop("versions"), record.pop("sha256")
    assert own == hashlib.sha256(canonical(record | {"versions": versions}).encode()).hexdigest()
    assert set(versions) == {"python", "torch", "numpy", "safetensors", "distilscope"}
    assert record == {
        "kind": "fit",
        "fingerprint": step.fingerprint,
        "config": {"lr": 0.5},
        "inputs": {"data": source.fingerprint},
        "code_version": 7,
        "counts": {"draws": 3},
        "files": {
            "a.txt": {"bytes": 5, "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
            "sub/b.bin": {"bytes": 2, "sha256": "b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2"},
        },
    }


def test_the_same_step_written_twice_gives_the_same_bytes_and_the_first_stays(store, tmp_path):
    step, twin = lone("fit"), Store(tmp_path / "twin")
    fill(store, step)
    fill(twin, step)
    assert tree(store.root) == tree(twin.root)
    before = (store.path(step) / "manifest.json").stat().st_ino
    fill(store, step, "late")
    assert (store.path(step) / "manifest.json").stat().st_ino == before
    assert store.verify([step]) == []
    assert list((store.root / ".partial").iterdir()) == []


def test_remains_without_a_manifest_make_way(store):
    step = lone("fit")
    (fill(store, step) / "manifest.json").unlink()
    assert not store.has(step)
    fill(store, step, "again")
    assert store.verify([step]) == []


def test_an_exception_leaves_nothing_and_passes(store):
    step = lone("fit")

    def fail():
        with store.writing(step) as folder:
            (folder / "a").write_text("half")
            raise GateError("z = 9")

    with pytest.raises(GateError, match="z = 9"):
        fail()
    assert not store.has(step)
    assert list((store.root / ".partial").iterdir()) == []


def test_a_kill_in_the_middle_of_writing_leaves_no_artifact(store):
    code = """if True:
        import sys, time
        from distilscope.pipeline.store import Store
        from work import lone
        store, step = Store(sys.argv[1]), lone("fit")
        with store.lock(), store.writing(step) as folder:
            (store.scratch(step) / "checkpoint").write_text("kept")
            (folder / "a").write_text("half")
            print("half", flush=True)
            time.sleep(60)
    """
    step = lone("fit")
    with python(code, store.root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert len(list((store.root / ".partial").iterdir())) == 1
    assert not store.has(step)
    with store.lock():
        assert not (store.root / ".partial").exists()
    assert (store.scratch(step) / "checkpoint").read_text() == "kept"


def test_scratch_goes_when_the_artifact_is_finished(store):
    step, other = lone("fit"), lone("other")
    (store.scratch(step) / "checkpoint").write_text("x")
    (store.scratch(other) / "checkpoint").write_text("x")
    fill(store, step)
    assert [p.name for p in (store.root / ".scratch").iterdir()] == [other.fingerprint]
    store.scratch(step)  # as a kill between the two leaves it
    with store.lock():
        assert [p.name for p in (store.root / ".scratch").iterdir()] == [other.fingerprint]


def test_a_full_disk_while_syncing_is_told_with_its_remedy(store, monkeypatch):
    def full(handle):  # noqa: ARG001
        raise OSError(errno.ENOSPC, "No space left on device")

    step = lone("fit")
    with monkeypatch.context() as patch:
        patch.setattr(manifest.os, "fsync", full)
        with pytest.raises(
            StoreError, match=r"the disk that holds .*store is full while .*free some space.*what was finished is kept"
        ):
            fill(store, step)
    assert not store.has(step)
    assert list((store.root / ".partial").iterdir()) == []
    fill(store, step)
    assert store.verify([step]) == []


def test_a_disk_found_full_by_the_step_or_by_a_library_in_another_language_is_told_too(store):
    step = lone("fit")
    with pytest.raises(StoreError, match="is full"), store.writing(step), open("/dev/full", "w") as file:
        file.write("x")
    with pytest.raises(StoreError, match="is full"), store.writing(step):
        raise RuntimeError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })')
    with pytest.raises(StoreError, match="the disk that holds /elsewhere is full"), store.writing(step):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere/tmp.bin")
    assert not store.has(step)


def test_a_root_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreError, match="cannot write in"), Store(root).lock():
            pass


def test_a_step_may_write_plain_files_only(store, tmp_path):
    step = lone("fit")
    with pytest.raises(StoreError, match=r"'link'.*plain files"), store.writing(step) as folder:
        (folder / "link").symlink_to(tmp_path)
    with pytest.raises(StoreError, match=r"'manifest\.json'"), store.writing(step) as folder:
        (folder / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="counts"), store.writing(step, {"loss": float("nan")}):
        pass
    assert not store.has(step)


def test_verify_names_the_file_with_a_flipped_byte(store):
    step = lone("fit")
    file = fill(store, step) / "sub" / "b.bin"
    file.write_bytes(b"\0\2")
    (problem,) = store.verify([lone("fit")])
    assert problem.file == file
    assert problem.artifact == store.path(step)
    assert str(file) in str(problem)
    assert "changed" in problem.what


def test_verify_finds_missing_extra_and_truncated_files_and_missing_artifacts(store):
    step, absent = lone("fit"), lone("absent")
    folder = fill(store, step)
    (folder / "a.txt").write_text("hell")
    (folder / "sub" / "b.bin").unlink()
    (folder / "sub" / "c").write_text("")
    found = {str(problem) for problem in store.verify([step, absent, step])}
    assert found == {
        f"{folder / 'a.txt'}: has 4 bytes, but 5 were written",
        f"{folder / 'sub' / 'b.bin'}: missing, though the manifest lists it",
        f"{folder / 'sub' / 'c'}: is not in the manifest, so the step did not write it",
        f"{store.path(absent) / 'manifest.json'}: missing, so the artifact does not exist",
    }


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "sub/../../outside", "a//b", "./a.txt", "", ".", "manifest.json", "a\0b", "\udcff"],
)
def test_a_manifest_that_points_outside_its_folder_is_refused(store, name):
    step = lone("fit")
    folder = fill(store, step)
    (store.root / "fit" / "outside").write_text("x")
    files = store.manifest(step)["files"] | {
        name: {"bytes": 1, "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}
    }
    changed(folder / "manifest.json", files=files)
    (problem,) = store.verify([step])
    assert problem.file == folder / "manifest.json"
    says = "surrogates" if name == "\udcff" else "stay inside"
    assert says in problem.what
    with pytest.raises(StoreError, match=says):
        store.manifest(step)


def test_links_are_refused_wherever_they_are(store, tmp_path):
    step = lone("fit")
    folder = fill(store, step)
    (tmp_path / "twin.txt").write_text("hello")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(tmp_path / "twin.txt")
    (folder / "more").symlink_to(tmp_path)
    assert {(p.file.name, "symbolic link" in p.what) for p in store.verify([step])} == {("a.txt", True), ("more", True)}
    moved = tmp_path / "moved"
    folder.rename(moved)
    folder.symlink_to(moved)
    (problem,) = store.verify([step])
    assert problem.file == folder
    assert "symbolic link" in problem.what


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"kind": "fit"}', '{"kind": 1}', '{"x": ' * 5000 + "1" + "}" * 5000, "\udce9"],
    ids=range(8),
)
def test_an_unreadable_manifest_is_a_problem_and_no_crash(store, text):
    step = lone("fit")
    file = fill(store, step) / "manifest.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    (problem,) = store.verify([step])
    assert problem.file == file
    assert "cannot be trusted" in problem.what


def test_a_manifest_with_any_byte_changed_is_a_problem(store):
    """Also where it is no part of the fingerprint, such as the counts, or no part of the content, such as a space."""
    step = lone("fit")
    file = fill(store, step) / "manifest.json"
    whole = file.read_bytes()
    for at in range(len(whole)):
        for change in (1, 7, 16, 128):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
            (problem,) = store.verify([step])
            assert problem.file == file, (at, change)
    for more in (
        whole + b"\n",
        whole.replace(b"\n", b"\r\n"),
        whole[:-1],
        whole.replace(b'"counts"', b'"counts": {}, "counts"'),
    ):
        file.write_bytes(more)
        assert [problem.file for problem in store.verify([step])] == [file]
    file.write_bytes(whole)
    assert store.verify([step]) == []


@pytest.mark.parametrize(
    "change",
    [{"code_version": 2}, {"config": {"a": 1}}, {"inputs": {"x": "0"}}, {"fingerprint": "0" * 64}, {"kind": "other"}],
)
def test_a_manifest_whose_content_has_another_fingerprint_is_a_problem(store, change):
    step = lone("fit")
    file = fill(store, step) / "manifest.json"
    changed(file, **change)
    (problem,) = store.verify([step])
    assert problem.file == file
    assert "fingerprint" in problem.what


def test_a_removed_artifact_can_be_made_again(store):
    step = lone("fit")
    fill(store, step)
    store.discard(store.path(step))
    assert not store.path(step).exists()
    fill(store, step)
    assert store.verify([step]) == []


def test_verify_takes_exactly_the_steps_it_is_given(store):
    target = plan()[0]
    for step in order([target]):
        fill(store, step)
    assert store.verify(order([target])) == []
    (store.path(order([target])[0]) / "a.txt").unlink()
    assert store.verify([target]) == []
    assert len(store.verify(order([target]))) == 1


HOLD = """if True:
    import sys, time
    from distilscope.pipeline.store import Store
    with Store(sys.argv[1]).lock():
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_lock_held_by_another_process_names_it_and_ends_with_it(store):
    with python(HOLD, store.root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match=rf"{store.root} is in use by process {process.pid} .*wait until it ends"),
            store.lock(),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with store.lock():
        pass


def test_a_lock_of_a_dead_process_that_its_worker_still_holds_is_waited_for(store):
    with store.lock(), store.lock():  # may be entered again by its holder
        handle = store.lock_handle
        assert handle is not None
        sleeper = subprocess.Popen(["sleep", "0.5"], pass_fds=[handle])
    gone = subprocess.Popen(["true"])
    gone.wait()
    lines = (store.root / ".lock").read_text().splitlines()
    (store.root / ".lock").write_text("\n".join([str(gone.pid), *lines[1:]]))
    start = time.monotonic()
    with store.lock():
        assert time.monotonic() - start > 0.2
    sleeper.wait()


def test_a_lock_held_beyond_patience_is_given_up(store):
    with store.lock():
        os.truncate(store.root / ".lock", 0)  # its holder has not yet said who it is
        with pytest.raises(StoreError, match="unknown command"):
            take_lock(store.root / ".lock", patience=0.1)
