"""Where what took time to make is kept from one process to the next."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """For converted models and compiled loops: DISTILSCOPE_CACHE, else the user's cache folder."""
    base = os.environ.get("DISTILSCOPE_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distilscope"
