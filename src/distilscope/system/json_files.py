"""JSON documents for people and programs: indented, UTF-8, and without NaN, which JSON does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distilscope.system.atomic_file import write_atomic


def as_json(document: Mapping[str, Any]) -> str:
    """The text of a document, as printed and as written to a file. Raises ValueError for NaN or infinity."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document to a file, which appears whole or not at all."""
    write_atomic(path, as_json(document))
