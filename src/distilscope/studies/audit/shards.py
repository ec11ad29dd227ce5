"""Traps in how shards of draws are named, ordered and read (8 and 9)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from distilscope.distribution import Key
from distilscope.errors import StoreError
from distilscope.lm.sequences import Sequences


def random_names(number: int, key: Key) -> tuple[str, ...]:
    """Trap 8: random names of shards."""
    random = key.generator()
    return tuple(random.bytes(16).hex() for _ in range(number))


def in_sorted_order(shards: Sequence[Sequences], names: Sequence[str]) -> Sequences:
    """Trap 8: the shards concatenated in the order of their names."""
    return Sequences.concatenate(
        shard for _, shard in sorted(zip(names, shards, strict=True), key=lambda pair: pair[0])
    )


def truncate(path: Path) -> None:
    """Cut a file to half its size, as a full disk or a killed writer leaves it."""
    os.truncate(path, path.stat().st_size // 2)


def survivors(paths: Sequence[Path]) -> tuple[Sequences, tuple[str, ...]]:
    """Trap 9: the shards that can be read, concatenated, and the definition's error for each of the others."""
    read, said = [], []
    for path in paths:
        try:
            read.append(Sequences.load(path))
        except StoreError as error:
            said.append(str(error).replace(str(path), path.name))
    return Sequences.concatenate(read), tuple(said)
