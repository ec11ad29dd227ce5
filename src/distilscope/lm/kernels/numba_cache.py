"""The decorator of compiled loops, and the folder that keeps their machine code from one process to the next.

Numba compiles a loop when it is first called. Everything that ends up in the machine code is in this folder of the
package: so the cache is keyed by the files of this folder, and by nothing else of the package.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import FunctionCache

from distilscope.system.cache_dir import cache_folder

_CACHE_DIR_LOCK = threading.Lock()
"""Held while Numba's one setting of a folder is changed: several threads may make loops at once."""


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code, for this processor.

    Sums are reassociated (so that they vectorise), always in the same way; NaN and infinities keep their meaning. The
    GIL is released, so that several threads may compute at once.
    """
    plain = inspect.unwrap(loop)  # without what checks shapes while tests run
    dispatcher: Any = numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")(
        plain
    )
    settings: Any = config
    with _CACHE_DIR_LOCK:
        theirs = settings.CACHE_DIR  # what else in this process is compiled stays where it is kept
        try:
            settings.CACHE_DIR = str(cache_folder() / "compiled" / _room_digest(Path(__file__).parent))
            dispatcher._cache = _BestEffortCache(plain)  # what `cache=True` does, with a cache that may fail to save
        except (OSError, RuntimeError):  # no folder can be written to: compiled in every process
            pass
        finally:
            settings.CACHE_DIR = theirs
    return dispatcher  # type: ignore[no-any-return]


class _BestEffortCache(FunctionCache):
    """A cache whose full disk costs the next process a compilation, and this one nothing."""

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


@cache
def _room_digest(room: Path) -> str:
    """SHA-256 of a folder's source files and of the compilers' versions.

    Of all files, because functions are inlined into what calls them while Numba checks only the caller's own file. (The
    processor is part of Numba's own key within the folder.)
    """
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for file in sorted(room.glob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]
