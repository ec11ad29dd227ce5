"""What commands print, and what they show."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distilscope.system.json_files import as_json


def print_json(document: Mapping[str, Any]) -> None:
    sys.stdout.write(as_json(document))


def to_stderr(sentence: str) -> None:
    print(f"distilscope: {sentence}", file=sys.stderr)


def console() -> Any:
    from rich.console import Console

    # a table in a file or a pipe is as wide as it needs to be
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, emoji=False)


def show(path: Path) -> None:
    """In the reader's browser; where there is none, the file's name is enough."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        to_stderr(f"there is no browser to open {path} in; open it yourself")
