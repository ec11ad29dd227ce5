"""JSON objects that hold their own SHA-256, so that any change of the text is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from distilscope.pipeline.step import JSON, canonical

MAX_CHARACTERS = 1 << 26
"""The longest text that is read: about that of a manifest that names a million other artifacts."""


def dump_checksummed(record: Mapping[str, JSON]) -> str:
    """The text of an object, with the SHA-256 of its canonical form added under "sha256"."""
    own = hashlib.sha256(canonical(record).encode("ascii")).hexdigest()
    return json.dumps({**record, "sha256": own}, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def load_checksummed(text: str) -> dict[str, JSON]:
    """The object that `dump_checksummed` wrote.

    Raises ValueError or RecursionError if even one character of the text differs from what was written.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, but none has more than {MAX_CHARACTERS:,}")
    record = json.loads(text)
    # The whole text is compared, not the digest alone: other spaces or another order of keys count as a change too.
    if not isinstance(record, dict) or text != dump_checksummed(
        {key: value for key, value in record.items() if key != "sha256"}
    ):
        raise ValueError("it has changed since it was written (its SHA-256 differs)")
    return record
