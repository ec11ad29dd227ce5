"""Manifests: what an artifact is, with the SHA-256 of every file and of the manifest itself.

Equal runs write equal manifests: there is no time, path or host in them.
"""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from distilscope import __version__
from distilscope.errors import StoreError
from distilscope.pipeline.checksummed_json import MAX_CHARACTERS, dump_checksummed, load_checksummed
from distilscope.pipeline.step import JSON, Identity, plain
from distilscope.system.atomic_file import sync
from distilscope.system.file_digest import file_digest

MANIFEST = "manifest.json"
NOT_PLAIN = "is a symbolic link or a special file; an artifact holds plain files"


@dataclass(frozen=True)
class Problem:
    """Something wrong with an artifact: its folder, the file, and what is wrong with it."""

    artifact: Path
    file: Path
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def write_manifest(folder: Path, identity: Identity, counts: Mapping[str, int | float | str]) -> None:
    """Force every file of a finished folder onto the disk, then write the manifest.

    The manifest is last because its presence means that the artifact exists: were it written first, a power failure
    could leave it beside files that never reached the disk. Raises StoreError for a link or a special file, for a file
    named like the manifest, and for counts that are not JSON values.
    """
    files: dict[str, JSON] = {}
    for path, mode in sorted(_entries(folder)):
        name = path.relative_to(folder).as_posix()
        if stat.S_ISDIR(mode):
            sync(path)
        elif not stat.S_ISREG(mode) or name == MANIFEST:
            raise StoreError(
                f"a step of kind {identity.kind!r} wrote {name!r}; an artifact holds plain files and no {MANIFEST} of "
                "the step's own"
            )
        else:
            sync(path)
            files[name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    try:
        written = plain(counts, "counts")
    except ValueError as error:
        raise StoreError(f"a step of kind {identity.kind!r} gave counts that cannot be stored: {error}") from error
    record = identity.form() | {
        "fingerprint": identity.fingerprint,
        "files": files,
        "counts": written,
        "versions": versions(),
    }
    with open(folder / MANIFEST, "x", encoding="ascii") as file:
        file.write(dump_checksummed(record))
        file.flush()
        os.fsync(file.fileno())
    sync(folder)  # the manifest's entry in the folder has to survive a power failure too


def read_manifest(folder: Path, fingerprint: str) -> dict[str, JSON]:
    """The manifest of the artifact with that fingerprint.

    Raises StoreError, naming the file, if it is missing, unreadable, changed by as much as a byte, says another
    fingerprint than its content gives, or lists a path that could leave the folder.
    """
    path = folder / MANIFEST
    try:
        if path.is_symlink():
            raise ValueError("it is a symbolic link; an artifact holds plain files")
        with path.open(encoding="ascii", newline="") as file:
            record = load_checksummed(file.read(MAX_CHARACTERS + 1))
        content = Identity(record["kind"], record["config"], record["inputs"], record["code_version"])
        if not content.fingerprint == record["fingerprint"] == fingerprint:
            raise ValueError(
                f"its content has the fingerprint {content.fingerprint}, not the {fingerprint} it is stored under"
            )
        if not isinstance(record["counts"], dict):
            raise ValueError("its counts are not a mapping")
        for name, entry in record["files"].items():
            inside = PurePosixPath(name.encode().decode())  # raises for a name that is not valid UTF-8
            if (
                inside.is_absolute()
                or ".." in inside.parts
                or "\0" in name
                or inside.as_posix() != name
                or name in (".", MANIFEST)
            ):
                raise ValueError(f"it lists {name!r}; a path must be relative and stay inside the artifact")
            if type(entry["bytes"]) is not int or not isinstance(entry["sha256"], str):
                raise ValueError(f"it has no size or no SHA-256 for {name!r}")
    except FileNotFoundError:
        raise StoreError(f"{path}: missing, so the artifact does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"the entry {error} is missing" if isinstance(error, KeyError) else error
        raise StoreError(f"{path}: the manifest cannot be trusted: {reason}") from error
    return record


def check(folder: Path) -> Iterator[Problem]:
    """Hash every file of an artifact again; yield what disagrees with its manifest.

    The folder's name is the fingerprint.
    """
    for place in (folder.parent, folder):
        if place.is_symlink():
            yield Problem(folder, place, "is a symbolic link; an artifact is a plain folder inside the store")
            return
    try:
        files = read_manifest(folder, folder.name)["files"]
    except StoreError as error:
        yield Problem(folder, folder / MANIFEST, str(error).removeprefix(f"{folder / MANIFEST}: "))
        return
    present = {
        path.relative_to(folder).as_posix(): (path, mode) for path, mode in _entries(folder) if not stat.S_ISDIR(mode)
    }
    present.pop(MANIFEST)
    for name, entry in sorted(files.items()):
        path, mode = present.pop(name, (folder / name, None))
        if mode is None:
            yield Problem(folder, path, "missing, though the manifest lists it")
        elif not stat.S_ISREG(mode):
            yield Problem(folder, path, NOT_PLAIN)
        else:
            try:
                found = path.stat().st_size
                if found != entry["bytes"]:
                    yield Problem(folder, path, f"has {found} bytes, but {entry['bytes']} were written")
                elif file_digest(path) != entry["sha256"]:
                    yield Problem(folder, path, "has changed since it was written (its SHA-256 differs)")
            except OSError as error:
                yield Problem(folder, path, f"cannot be read: {error.strerror}")
    for _, (path, mode) in sorted(present.items()):
        yield Problem(
            folder, path, "is not in the manifest, so the step did not write it" if stat.S_ISREG(mode) else NOT_PLAIN
        )


def require_sound(folder: Path) -> Path:
    """The artifact's folder, after `check`. Raises StoreError, naming the first file that is not as it was written."""
    for problem in check(folder):
        raise StoreError(f"{problem}; run again with --repair to have it made again")
    return folder


def _entries(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file and folder below, with its mode; links are listed, not followed."""
    for parent, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            path = Path(parent, name)
            yield path, path.lstat().st_mode


def versions() -> dict[str, str | None]:
    """Versions of the packages that could change a result, read without importing them."""
    found: dict[str, str | None] = {"python": platform.python_version(), "distilscope": __version__}
    for package in ("numpy", "safetensors", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
