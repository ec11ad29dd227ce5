"""Whether a GGUF file can be what its header says, before a reader believes it.

The `gguf` package's reader takes counts and lengths as they stand, and loops or allocates by them. So the header is
walked here first, and refused where it says what does not fit into the file. (The format: ggml's docs/gguf.md.)
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each type of value; 8 is text, 9 an array."""
_TEXT, _ARRAY = 8, 9

MOST_ENTRIES = 1 << 16
"""Settings, and tensors, of a model."""

MOST_VALUES = 1 << 21
"""In all arrays together: a reader holds an object for each. A vocabulary of 260 000 tokens with its merges takes 1.3
million."""

MOST_DIMENSIONS = 4

LEAST_BITS = 1
"""Per weight, in any quantisation."""


def require_sound_header(path: Path) -> None:
    """Raises ValueError, saying what is wrong, unless the header fits into the file."""
    if path.stat().st_size < 24:
        raise ValueError(f"it has {path.stat().st_size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Header(data).walk()


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.size, self.at = data, len(data), 0
        self.order = "<"
        self.values = 0

    def walk(self) -> None:
        if self.take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        if not self.number(4) & 0xFFFF:  # written on a machine of the other byte order
            self.order = ">"
        tensors, settings = self.number(8), self.number(8)
        for what, count in (("tensors", tensors), ("settings", settings)):
            if count > MOST_ENTRIES:
                raise ValueError(f"it says that it holds {count:,} {what}")
        for _ in range(settings):
            self.text()
            self.value(self.number(4))
        weights = sum(self.tensor() for _ in range(tensors))
        if weights * LEAST_BITS > 8 * self.size:
            raise ValueError(f"it says that it holds {weights:,} weights in {self.size:,} bytes")

    def value(self, kind: int) -> None:
        if kind == _TEXT:
            self.text()
        elif kind == _ARRAY:
            self.array(self.number(4), self.number(8))
        elif kind in _SCALARS:
            self.skip(_SCALARS[kind])
        else:
            raise ValueError(f"it has a value of the unknown type {kind}")

    def array(self, kind: int, length: int) -> None:
        self.values += length
        if self.values > MOST_VALUES:
            raise ValueError(f"it says that its arrays hold {self.values:,} values")
        if kind == _ARRAY:
            raise ValueError("it has arrays within arrays")
        if kind in _SCALARS:
            self.skip(_SCALARS[kind] * length)
        else:
            for _ in range(length):
                self.value(kind)

    def tensor(self) -> int:
        """Its number of weights."""
        self.text()
        dimensions = self.number(4)
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"it has a tensor of {dimensions:,} dimensions")
        shape = [self.number(8) for _ in range(dimensions)]
        self.skip(4 + 8)  # type and offset: what they lead to is checked where it is read
        return math.prod(shape)

    def text(self) -> None:
        self.skip(self.number(8))

    def number(self, width: int) -> int:
        return struct.unpack(self.order + {4: "I", 8: "Q"}[width], self.take(width))[0]

    def take(self, length: int) -> bytes:
        self.skip(length)
        return self.data[self.at - length : self.at]

    def skip(self, length: int) -> None:
        if length > self.size - self.at:
            raise ValueError(f"it ends at byte {self.size:,}, but says that {length:,} bytes follow byte {self.at:,}")
        self.at += length
