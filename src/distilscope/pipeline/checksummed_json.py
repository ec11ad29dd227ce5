"""A JSON object as a text that shows every change: one way to write it, with the SHA-256 of the rest of it inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from distilscope.pipeline.step import JSON, canonical

LARGEST = 1 << 26
"""Characters of a sealed text; a manifest that names a million other artifacts has as many."""


def sealed(record: Mapping[str, JSON]) -> str:
    own = hashlib.sha256(canonical(record).encode("ascii")).hexdigest()
    return json.dumps({**record, "sha256": own}, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def unsealed(text: str) -> dict[str, JSON]:
    """The object. Raises ValueError or RecursionError unless the text is, to the last character, what `sealed`
    wrote."""
    if len(text) > LARGEST:
        raise ValueError(f"it has {len(text):,} characters, but none has more than {LARGEST:,}")
    record = json.loads(text)
    if not isinstance(record, dict) or text != sealed({key: value for key, value in record.items() if key != "sha256"}):
        raise ValueError("it has changed since it was written (its SHA-256 differs)")
    return record
