"""Write a folder so that it appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distilscope.system.atomic_file import sync
from distilscope.system.signals import defer_exit


def sync_tree(folder: Path) -> None:
    """Force every file below a folder, and the folder itself, onto the disk."""
    for parent, _, files in os.walk(folder):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


@contextmanager
def atomic_folder(
    path: Path,
    *,
    draft: Path,
    finish: Callable[[Path], None] = sync_tree,
    replaces: Callable[[], bool] = lambda: False,
) -> Iterator[Path]:
    """Yield a fresh folder, `draft`, to write into; when the block ends well, the draft becomes `path`, durably.

    If the block raises, the draft is removed and the error passes. `draft` must be on the file system of `path`: only
    there is a rename atomic. What a killed process left of a draft of the same name is removed. `finish` puts the
    draft's content onto the disk before the rename; it may add files. What is at `path` already (except an empty
    folder) is kept and the draft is dropped, since another process was first, unless `replaces` says that it may be
    replaced.
    """
    replaced = draft.with_name(f"{draft.name}.replaced")
    remove(draft)
    new_parent = not path.parent.exists()  # asked now, since the draft may be made in the same folder
    try:
        draft.mkdir(parents=True)
        yield draft
        finish(draft)
        _move(draft, path, replaced, replaces)
        # A rename is an entry of the parent folder. Without this, a power failure could undo it after it was reported.
        sync(path.parent)
        if new_parent:
            sync(path.parent.parent)
    finally:
        remove(draft)
        if os.path.lexists(path):  # else a kill or an error came between two renames, and it is the only one there is
            remove(replaced)


def remove(path: Path) -> None:
    """Remove a folder with all it holds, a file, or a link (not what it leads to); what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _move(draft: Path, path: Path, replaced: Path, replaces: Callable[[], bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(draft, path)  # replaces an empty folder; anything else in its place is refused
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not replaces():
            return
        # No system call that Python offers exchanges two folders. So the old one moves away first; it comes back if
        # the new one cannot take its place, and a SIGTERM waits until the place is filled again.
        remove(replaced)
        with defer_exit():
            os.rename(path, replaced)
            try:
                os.rename(draft, path)
            except BaseException:
                os.rename(replaced, path)
                raise
