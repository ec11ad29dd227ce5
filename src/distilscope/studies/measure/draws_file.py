"""The Parquet file of `measure --keep-draws`: draws of both sides, written and read tile by tile.

One row for each draw. Columns: side ("reference" or "candidate"), prompt_id (index of the prompt), ids, length,
ended, token_log_prob (nats, as recorded while drawing), log_prob_reference and log_prob_candidate (nats per
sequence; -inf where a side cannot make it). The file's metadata describes the draws: see `About`. A row group is a
tile, so that draws that are read are scored in the same batches and give the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from distilscope.errors import GateError, UsageError, one_line
from distilscope.lm.causal_lm import PromptedLM
from distilscope.lm.sequences import Prompts, Sequences, id_dtype
from distilscope.system.atomic_file import atomic_file

SCHEMA_VERSION = 1

SIDES: tuple[str, ...] = ("reference", "candidate")

READ = ("side", "prompt_id", "ids", "length", "ended", "token_log_prob")
"""Columns that are read; the scores of the two sides are computed again."""

TILE = 256
"""Draws that are made, scored and written together."""


@dataclass(frozen=True)
class About:
    """Description of the draws, each field as JSON in the file's metadata."""

    prompts: list[str]
    """Their texts."""
    prompt_ids: dict[str, list[list[int]]]
    """Their token ids, by side, as are the next three."""
    vocabulary: dict[str, int]
    stopping: dict[str, list[int]]
    selectivities: dict[str, str]
    horizon: int
    num_samples: int
    seed: int
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, sides: Mapping[str, PromptedLM], prompts: tuple[str, ...], *, num_samples: int, seed: int) -> About:
        return cls(
            prompts=list(prompts),
            prompt_ids={name: [list(ids) for ids in side.prompts] for name, side in sides.items()},
            vocabulary={name: side.model.network.vocabulary for name, side in sides.items()},
            stopping={name: sorted(side.model.stopping) for name, side in sides.items()},
            selectivities={name: str(side.model.selectivity) for name, side in sides.items()},
            horizon=next(iter(sides.values())).horizon,
            num_samples=num_samples,
            seed=seed,
        )


def draws_path(place: Path) -> Path:
    """The file at `place`: itself if it ends in .parquet, else `draws.parquet` in that folder."""
    return place if place.suffix == ".parquet" else place / "draws.parquet"


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        {
            "side": pa.string(),
            "prompt_id": pa.int32(),
            "ids": pa.list_(pa.int32()),
            "length": pa.int32(),
            "ended": pa.bool_(),
            "token_log_prob": pa.list_(pa.float32()),
            "log_prob_reference": pa.float64(),
            "log_prob_candidate": pa.float64(),
        }
    )


def list_column(offsets: Int[np.ndarray, " n_plus_1"], values: Shaped[np.ndarray, " tokens"], kind: Any) -> Any:
    """A column of lists from values end to end, the i-th list beginning at `offsets[i]`."""
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values, type=kind))


class DrawsWriter:
    """Appends tiles of draws to an open file; `open_draws_writer` makes one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, side: str, draws: Sequences, log_prob: Mapping[str, Float[np.ndarray, " n"]]) -> None:
        """Append one tile of a side's draws, with each sequence's log-probability (nats) under both sides, by name."""
        import pyarrow as pa

        assert draws.log_prob is not None
        columns = {
            "side": pa.array([side] * len(draws)),
            "prompt_id": pa.array(draws.prompt_of, type=pa.int32()),
            "ids": list_column(draws.offsets, draws.ids.astype(np.int32), pa.int32()),
            "length": pa.array(draws.lengths, type=pa.int32()),
            "ended": pa.array(draws.ended),
            "token_log_prob": list_column(draws.offsets, draws.log_prob, pa.float32()),
        } | {f"log_prob_{name}": pa.array(log_prob[name]) for name in SIDES}
        self._file.write_table(pa.table(columns, schema=self._file.schema), row_group_size=len(draws))


@contextmanager
def open_draws_writer(path: Path, about: About) -> Iterator[DrawsWriter]:
    """Open a file of draws, which appears whole when the block ends well, and not at all otherwise.

    Raises UsageError where the file cannot be made.
    """
    from pyarrow import parquet

    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in asdict(about).items()}
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = stack.enter_context(atomic_file(path))
            file = parquet.ParquetWriter(partial, _schema().with_metadata(metadata), compression="zstd")
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written ({error.strerror or error}); give another --keep-draws"
            ) from None
        stack.enter_context(file)  # closed, which writes the footer, before the file is put in its place
        yield DrawsWriter(file)


class DrawsFile:
    """Reader of a file of draws. Raises UsageError if it is malformed, GateError if it is of other models."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
        except FileNotFoundError:
            raise UsageError(f"there is no file {path}; give one that --keep-draws has written") from None
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._malformed(f"is no whole Parquet file ({one_line(error)})") from None
        found = self._file.schema_arrow
        for name, kind in zip(_schema().names, _schema().types, strict=True):
            if name not in found.names or not _reads_as(found.field(name).type, kind):
                what = f"of {found.field(name).type}" if name in found.names else "missing"
                raise self._malformed(f"should have a column {name} of {kind}, but it is {what}")
        self.about = self._read_about({key.decode(): value for key, value in (found.metadata or {}).items()})

    def _malformed(self, what: str) -> UsageError:
        return UsageError(f"{self.path} {what}; give a file that --keep-draws has written")

    def _read_about(self, metadata: Mapping[str, bytes]) -> About:
        try:
            values = {name: json.loads(metadata[name]) for name in About.__dataclass_fields__}
            if values["schema_version"] != SCHEMA_VERSION:
                raise self._malformed(
                    f"is of schema version {values['schema_version']}, where {SCHEMA_VERSION} is read"
                )
            about = About(**values)
            whole = [about.horizon, about.num_samples, *(about.vocabulary[name] for name in SIDES)]
            sound = all(isinstance(number, int) and number > 0 for number in whole) and isinstance(about.seed, int)
            sound &= all(isinstance(text, str) for text in about.prompts) and len(about.prompts) > 0
            sound &= all(
                len(about.prompt_ids[name]) == len(about.prompts)
                and all(ids and np.array(ids).dtype.kind == "i" for ids in about.prompt_ids[name])
                for name in SIDES
            )
            sound &= all(isinstance(token, int) for name in SIDES for token in about.stopping[name])
            sound &= all(isinstance(about.selectivities[name], str) for name in SIDES)
        except (KeyError, TypeError, ValueError) as error:
            raise self._malformed(
                f"does not say what its draws are ({type(error).__name__}: {one_line(error)})"
            ) from None
        if not sound:
            raise self._malformed("says of its draws what cannot be (its metadata)")
        return about

    def require_made_by(self, sides: Mapping[str, PromptedLM]) -> None:
        """Raise GateError unless vocabulary, prompts and stopping ids are those of the sides to be measured."""
        for name, side in sides.items():
            theirs = (self.about.vocabulary[name], _prompts(self.about.prompt_ids[name]), self.about.stopping[name])
            ours = (side.model.network.vocabulary, side.prompts, sorted(side.model.stopping))
            for what, recorded, found in zip(
                ("vocabulary", "prompts' token ids", "stopping ids"), theirs, ours, strict=True
            ):
                if recorded != found:
                    raise GateError(
                        f"the draws of the {name} in {self.path} belong to another model: its {what} "
                        f"{'are' if what.endswith('s') else 'is'} {_short(found)}, not {_short(recorded)}; give the "
                        "models that made them"
                    )

    def tiles(self, side: str) -> Iterator[Sequences]:
        """One side's draws as they were written, with at most one tile in memory."""
        import pyarrow as pa

        number = 0
        try:
            for group in range(self._file.num_row_groups):
                for batch in self._file.iter_batches(TILE, row_groups=[group], columns=list(READ)):
                    table = pa.Table.from_batches([batch])
                    if any(column.null_count for column in table.columns):
                        raise self._malformed("leaves out values")
                    mine = np.array(table.column("side").to_pylist()) == side
                    if mine.any():
                        number += int(mine.sum())
                        yield self._sequences(side, table.filter(mine).combine_chunks())
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._malformed(f"cannot be read to its end ({one_line(error)})") from None
        if number != self.about.num_samples:
            raise self._malformed(f"holds {number} draws of the {side} where it says {self.about.num_samples}")

    def _sequences(self, name: str, table: Any) -> Sequences:
        vocabulary, prompts = self.about.vocabulary[name], _prompts(self.about.prompt_ids[name])
        lengths, which = (table.column(column).to_numpy().astype(np.int32) for column in ("length", "prompt_id"))
        lists = [table.column(column).combine_chunks() for column in ("ids", "token_log_prob")]
        counts = [np.diff(values.offsets.to_numpy()) for values in lists]
        ids, recorded = (values.flatten().to_numpy(zero_copy_only=False) for values in lists)
        if ids.dtype.kind not in "iu" or (len(ids) and not 0 <= ids.min() <= ids.max() < vocabulary):
            raise self._malformed(f"has token ids outside the vocabulary of {vocabulary} that it names")
        if lengths.min() < 1 or not 0 <= which.min() <= which.max() < len(prompts):
            raise self._malformed("has draws of no length, or after prompts that it does not name")
        if (counts[1] != lengths).any():
            raise self._malformed("has draws with another number of log-probabilities than their length")
        if wrong := int((counts[0] != lengths).sum()):
            raise GateError(
                f"{wrong} draws of the {name} in {self.path} have not as many ids as were recorded; "
                "likely causes are a stopping token that was dropped or added, or text that was tokenised again"
            )
        ended = table.column("ended").to_numpy().astype(bool)
        return Sequences(
            ids.astype(id_dtype(vocabulary)), lengths, ended, prompts, vocabulary, recorded.astype(np.float32), which
        )


def _prompts(ids: list[list[int]]) -> Prompts:
    return tuple(tuple(prompt) for prompt in ids)


def _reads_as(found: Any, wanted: Any) -> bool:
    """Whether a column of this type can be read: dictionary encoding and other widths are accepted."""
    import pyarrow.types as kinds

    if kinds.is_dictionary(found):
        return _reads_as(found.value_type, wanted)
    if kinds.is_list(wanted):
        return kinds.is_list(found) and _reads_as(found.value_type, wanted.value_type)
    families = (kinds.is_string, kinds.is_integer, kinds.is_floating, kinds.is_boolean)
    return any(family(found) and family(wanted) for family in families)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
