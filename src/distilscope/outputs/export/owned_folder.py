"""Write an export's folder whole, and never over files that no export has written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError
from distilscope.system.atomic_folder import atomic_folder, sync_tree
from distilscope.system.file_digest import file_digest
from distilscope.system.json_files import write_json

RECORD = "export.json"
"""File that says what was exported, with the SHA-256 of every other file: what has changed since is known by it."""


@contextmanager
def owned_folder(place: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a fresh folder to write into; when the block ends well it becomes `place`, with `about` in its record.

    An earlier export that nobody has touched is replaced. Raises UsageError for anything else at `place`, before the
    block begins; if the block raises, nothing is left of it.
    """
    require_ours(place)

    def finish(draft: Path) -> None:
        files = {str(path.relative_to(draft)): file_digest(path) for path in _files(draft)}
        write_json(draft / RECORD, {"schema_version": 1, **about, "files": files})
        sync_tree(draft)

    # One name for every draft of this folder, so that the next export removes what a killed one has left.
    draft = place.with_name(f".{place.name}.partial")
    with ExitStack() as stack:
        try:
            fresh = stack.enter_context(atomic_folder(place, draft=draft, finish=finish, replaces=lambda: True))
        except OSError as error:
            raise UsageError(
                f"the folder {place} cannot be made ({error.strerror}); give another --output-dir"
            ) from None
        yield fresh


def require_ours(place: Path) -> None:
    """Raise UsageError unless `place` is missing, an empty folder, or an export exactly as it was written."""
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
