"""Write a file so that it appears whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends well, the file written there becomes `path`.

    Its content is on the disk before it gets the name. If the block raises, the temporary file is removed.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")  # libraries choose a format by the suffix
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)  # the rename itself is an entry of the folder, and must survive a power failure too


def write_atomic(path: Path, text: str) -> None:
    """Write a text, as UTF-8, to a file that appears whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Force a file, or the entries of a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
