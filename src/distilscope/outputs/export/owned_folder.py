"""A folder that appears whole or not at all, and never takes the place of somebody else's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError
from distilscope.lm.loading import file_digest
from distilscope.system.signals import not_now

RECORD = "export.json"
"""Says what was exported, with the SHA-256 of every other file: so that what has changed since is known."""


@contextmanager
def whole_folder(place: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """A fresh folder to write into; when the block ends well it becomes `place`, with `about` in its record.

    An earlier export that nobody has touched makes way. Raises UsageError for anything else that stands there, before
    the block begins; if the block raises, nothing is left of it.
    """
    require_ours(place)
    partial, old = (place.with_name(f".{place.name}.{what}") for what in ("partial", "old"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise UsageError(f"the folder {place} cannot be made ({error.strerror}); give another --output-dir") from None
    try:
        yield partial
        files = {str(path.relative_to(partial)): file_digest(path) for path in _files(partial)}
        record = json.dumps({"schema_version": 1, **about, "files": files}, indent=2, ensure_ascii=False)
        (partial / RECORD).write_text(record + "\n", encoding="utf-8")
        with not_now():
            shutil.rmtree(old, ignore_errors=True)
            if place.exists():
                place.rename(old)
            partial.rename(place)
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def require_ours(place: Path) -> None:
    """Raises UsageError unless nothing stands there, or an empty folder, or an export as it was written."""
    other = "give another --output-dir"
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise UsageError(f"{place} is no plain folder; {other}")
    present = {str(path.relative_to(place)) for path in _files(place)}
    if not present:
        return
    try:
        known: Mapping[str, str] = json.loads((place / RECORD).read_text(encoding="utf-8"))["files"]
        changed = sorted(
            name for name, digest in known.items() if name in present and file_digest(place / name) != digest
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{place} holds files that no export has written, and they are not overwritten; {other}"
        ) from None
    touched = [*changed, *sorted(present - set(known) - {RECORD})]
    if touched:
        raise UsageError(
            f"{place / touched[0]} was changed or added since {place} was exported, and is not overwritten; move it "
            f"away or {other}"
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir()) if folder.exists() else []
