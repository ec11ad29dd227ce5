"""What a finished run left for other commands to read: its results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError

SCHEMA_VERSION = 1


def read_results(folder: Path) -> dict[str, Any]:
    """The document of a run's results.json. Raises UsageError where the run is not finished or its file is of another schema."""
    path = folder / "results.json"
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the one that `distilscope run` named")
    if not path.is_file():
        raise UsageError(f"{folder} is no finished run: it lacks results.json; give the same `distilscope run` command again to finish it")
    try:
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        version = results["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error!r}); run the study again") from None
    if version != SCHEMA_VERSION:
        raise UsageError(f"{folder} holds results of schema {version}, this version reads {SCHEMA_VERSION}; run the study again")
    return results


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
