"""Measured tables on a terminal, and between two marks of a page that says what they mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

Rows = Sequence[tuple[str, ...]]
Tables = Sequence[tuple[tuple[str, ...], Rows]]
"""Each a row of headings and the rows below it."""


def processor() -> str:
    about = dict(
        line.split("\t: ", 1)
        for line in Path("/proc/cpuinfo").read_text().replace("\t\t", "\t").splitlines()
        if "\t: " in line
    )
    return f"{about.get('model name', 'unknown processor')} (family {about.get('cpu family', '?')})"


def machine() -> str:
    """Processor, cores and versions."""
    return f"{processor()}, {os.cpu_count()} cores; " + ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers")
    )


def show(title: str, tables: Tables) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(title)
    for headings, rows in tables:
        table = Table(*headings)
        for column in table.columns[1:]:
            column.justify = "right"
        for i, row in enumerate(rows):
            table.add_row(*row, end_section=i + 1 < len(rows) and row[0].split(":")[0] != rows[i + 1][0].split(":")[0])
        console.print(table)


def write_beside_other_processors(path: Path, command: str, title: str, tables: Tables) -> None:
    """Replaces what this command wrote on such a processor, or puts it before what it wrote on others."""
    command_here, page = f"{command} on {processor()}", path.read_text()
    if f"<!-- written by {command_here} -->" not in page:
        first = page.index(f"<!-- written by {command} on ")
        path.write_text(
            f"{page[:first]}<!-- written by {command_here} -->\n<!-- end of {command_here} -->\n\n{page[first:]}"
        )
    write(path, command_here, title, tables)


def write(path: Path, command: str, title: str, tables: Tables) -> None:
    """Replaces what stands between the marks of this command."""
    start, end = f"<!-- written by {command} -->", f"<!-- end of {command} -->"
    before, rest = path.read_text().split(start)
    parts = [title]
    for headings, rows in tables:
        lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
        parts.append("\n".join([lines[0], "|---|" + "---:|" * (len(headings) - 1), *lines[1:]]))
    path.write_text(before + start + "\n" + "\n\n".join(parts) + "\n" + end + rest.split(end)[1])
