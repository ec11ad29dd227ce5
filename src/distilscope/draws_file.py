"""Both sides' draws as a Parquet file: written while they are measured, and read again in place of drawing.

A row is a draw: side, prompt_id, ids, length, ended, token_log_prob (nats, as recorded while drawing), and its log-probability under both
sides. What they were drawn after stands in the file's metadata under `distilscope`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError
from distilscope.lm.sequences import Prompts, Sequences, id_dtype

SCHEMA_VERSION = 1

_ROWS = 256
"""Draws read at once."""


@dataclass(frozen=True)
class DrawsAbout:
    """What the draws of a file follow and how long they could be."""

    prompts: tuple[str, ...]
    horizon: int


def _schema(about: DrawsAbout) -> Any:
    import pyarrow as pa

    columns = {
        "side": pa.string(),
        "prompt_id": pa.int32(),
        "ids": pa.list_(pa.int32()),
        "length": pa.int32(),
        "ended": pa.bool_(),
        "token_log_prob": pa.list_(pa.float32()),
        "log_prob_reference": pa.float64(),
        "log_prob_candidate": pa.float64(),
    }
    return pa.schema(columns, metadata={"distilscope": json.dumps({"schema_version": SCHEMA_VERSION} | asdict(about))})


class DrawsWriter:
    """Writes tiles as they come; nothing is at `path` until all have. Used as a context manager."""

    def __init__(self, path: Path, about: DrawsAbout) -> None:
        self.path, self._schema = path, _schema(about)
        self._partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> DrawsWriter:
        from pyarrow import parquet

        try:
            self._writer = parquet.ParquetWriter(self._partial, self._schema)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written ({error.strerror or error}); give another --keep-draws") from None
        return self

    def write(self, side: str, draws: Sequences, *, reference: Float[np.ndarray, " n"], candidate: Float[np.ndarray, " n"]) -> None:
        """A tile of one side, with each draw's log-probability (nats) under both."""
        import pyarrow as pa

        assert draws.log_prob is not None
        offsets = draws.offsets.astype(np.int32)
        columns = {
            "side": [side] * len(draws),
            "prompt_id": draws.prompt_of.astype(np.int32),
            "ids": pa.ListArray.from_arrays(offsets, pa.array(draws.ids.astype(np.int32))),
            "length": draws.lengths.astype(np.int32),
            "ended": draws.ended,
            "token_log_prob": pa.ListArray.from_arrays(offsets, pa.array(draws.log_prob.astype(np.float32))),
            "log_prob_reference": reference,
            "log_prob_candidate": candidate,
        }
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._writer.close()
        if kind is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)


class DrawsFile:
    """A file that `DrawsWriter` wrote. Raises UsageError for anything else."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
            about = json.loads((self._file.schema_arrow.metadata or {})[b"distilscope"])
            version = about.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise UsageError(f"{path} holds draws of schema {version}, this version reads {SCHEMA_VERSION}; draw again")
            self.about = DrawsAbout(tuple(map(str, about["prompts"])), int(about["horizon"]))
            if self._file.schema_arrow.names != _schema(self.about).names:
                raise KeyError("its columns are others")
            sides = self._file.read(columns=["side"]).column("side").value_counts().to_pylist()
            self.numbers = {one["values"]: one["counts"] for one in sides}
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{path} is no file of draws ({' '.join(str(error).split())[:200]}); give one that --keep-draws wrote"
            ) from None
        if set(self.numbers) != {"reference", "candidate"}:
            raise UsageError(f"{path} holds draws of {sorted(self.numbers) or 'no side'}, but both sides are needed; draw again")

    def tiles(self, side: str, *, prompts: Prompts, vocabulary: int) -> Iterator[Sequences]:
        """This side's draws, a few at a time, over these ids."""
        for batch in self._file.iter_batches(_ROWS):
            rows = batch.to_pydict()
            mine = [i for i, found in enumerate(rows["side"]) if found == side]
            if not mine:
                continue
            ids, recorded = ([rows[name][i] or [] for i in mine] for name in ("ids", "token_log_prob"))
            lengths, prompt_of = (np.array([rows[name][i] for i in mine], dtype=np.int32) for name in ("length", "prompt_id"))
            if lengths.min() < 1 or any([len(row) for row in values] != lengths.tolist() for values in (ids, recorded)):
                raise UsageError(f"{self.path} has a draw whose length is not that of its ids and log-probabilities; draw again")
            tokens = np.concatenate([np.array(row, dtype=np.int64) for row in ids])
            if tokens.min() < 0 or tokens.max() >= vocabulary or prompt_of.min() < 0 or prompt_of.max() >= len(prompts):
                raise UsageError(f"{self.path} has ids or prompts that the {side} does not have; give the models that it was drawn from")
            yield Sequences(
                tokens.astype(id_dtype(vocabulary)),
                lengths,
                np.array([rows["ended"][i] for i in mine], dtype=bool),
                prompts,
                vocabulary,
                np.concatenate([np.array(row, dtype=np.float32) for row in recorded]),
                prompt_of,
            )
