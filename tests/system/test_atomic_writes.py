"""Files and folders appear whole or not at all, and are on the disk before they appear."""

import errno
import os

import pytest

from distilscope.system import atomic_file as files
from distilscope.system.atomic_file import atomic_file, write_atomic
from distilscope.system.atomic_folder import atomic_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def synced(monkeypatch):
    """What was forced onto the disk, and what was renamed, in order."""
    events, fsync, rename = [], os.fsync, os.rename

    def noted_sync(handle):
        events.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def noted_rename(old, new, **options):
        events.append(("rename", os.path.basename(new)))
        rename(old, new, **options)

    monkeypatch.setattr(files.os, "fsync", noted_sync)
    monkeypatch.setattr(os, "rename", noted_rename)
    return events


def test_a_file_and_then_its_folder_are_synced(tmp_path, synced):
    write_atomic(tmp_path / "a.txt", "é")
    assert (tmp_path / "a.txt").read_bytes() == "é".encode()
    assert synced == [("sync", ".a.partial.txt"), ("sync", tmp_path.name)]


def test_a_file_that_fails_leaves_the_earlier_one(tmp_path):
    write_atomic(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt") as partial:
        partial.write_text(f"half {1 / 0}")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def write(path, text="new", **options):
    with atomic_folder(path, draft=path.with_name("draft"), **options) as draft:
        (draft / "inside").mkdir()
        (draft / "inside" / "file").write_text(text)


def test_a_folder_is_synced_with_all_it_holds_before_it_is_renamed_and_its_new_parents_after(tmp_path, synced):
    write(tmp_path / "parent" / "out")
    at = synced.index(("rename", "out"))
    assert {("sync", "file"), ("sync", "inside"), ("sync", "draft")} == set(synced[:at])
    assert synced[at + 1 :] == [("sync", "parent"), ("sync", tmp_path.name)]
    assert names(tmp_path / "parent") == ["out"]


def test_a_folder_that_another_process_made_first_is_kept(tmp_path):
    write(tmp_path / "out", "first")
    write(tmp_path / "out", "second")
    assert (tmp_path / "out" / "inside" / "file").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_a_folder_or_a_file_is_replaced_where_that_is_allowed(tmp_path):
    for _ in range(2):
        write(tmp_path / "out", replaces=lambda: True)
        assert names(tmp_path) == ["out"]
    (tmp_path / "file").write_text("")
    write(tmp_path / "file", replaces=lambda: True)
    assert (tmp_path / "file" / "inside" / "file").read_text() == "new"
    assert names(tmp_path) == ["file", "out"]


def test_the_earlier_folder_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    rename = os.rename

    def refused(old, new):
        if os.path.basename(old) == "draft" and not os.path.exists(new):
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "out", replaces=lambda: True)
    assert (tmp_path / "out" / "inside" / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_folder_whose_content_cannot_be_synced_does_not_appear(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "out")
    assert names(tmp_path) == []


def test_what_a_killed_process_left_under_the_same_name_is_removed(tmp_path):
    for left in ("draft", "draft.replaced"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").write_text("")
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["inside"]
