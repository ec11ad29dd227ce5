"""Rows of a table that a user brings: JSON lines, or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError, one_line

Row = dict[str, Any]

LONGEST_LINE = 8_000_000
"""Characters; room for the longest prompt and completion, each character of them written as six."""

BATCH = 1024
"""Rows of a Parquet file that are held at once."""


def read_rows(path: Path, columns: Sequence[str], *, needed: Sequence[str] = ()) -> Iterator[tuple[str, Row]]:
    """Each row's place ("line 3", "row 3") and what it holds of `columns`. JSON lines unless the file is named
    .parquet.

    Raises UsageError for a file that cannot be read, and for a row or table without one of `needed`.
    """
    return _parquet(path, columns, needed) if path.suffix == ".parquet" else _json_lines(path, columns, needed)


def _json_lines(path: Path, columns: Sequence[str], needed: Sequence[str]) -> Iterator[tuple[str, Row]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), start=1):
                if len(line) > LONGEST_LINE:
                    raise UsageError(
                        f"{path}, line {number} has more than {LONGEST_LINE:,} characters; write one row on each line"
                    )
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(
                        f"{path}, line {number} is not JSON ({one_line(error)}); write one object on each line"
                    ) from None
                lacking = next((name for name in needed if not isinstance(row, dict) or name not in row), None)
                if lacking:
                    raise UsageError(
                        f"{path}, line {number} has no key {lacking}; write for example {json.dumps({lacking: 'The'})}"
                    )
                if not isinstance(row, dict):
                    raise UsageError(f"{path}, line {number} is no JSON object; write one object on each line")
                yield f"line {number}", {name: row[name] for name in columns if name in row}
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give a file of JSON lines or Parquet") from None


def _parquet(path: Path, columns: Sequence[str], needed: Sequence[str]) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            lacking = next((name for name in needed if name not in there), None)
            if lacking:
                raise UsageError(f"{path} has no column {lacking}; write one")
            number = 0
            for batch in file.iter_batches(BATCH, columns=[name for name in columns if name in there]):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UsageError(f"{path} is no Parquet file ({one_line(error)}); write it again") from None
