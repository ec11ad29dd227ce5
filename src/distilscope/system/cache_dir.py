"""The cache of converted models and compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """DISTILSCOPE_CACHE, else `distilscope` in the user's cache folder."""
    base = os.environ.get("DISTILSCOPE_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distilscope"
