"""The part of `run --help` and `plan --help` that lists every setting with its default and meaning."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Any

from distilscope.studies.overrides import FLAT
from distilscope.studies.recipes import STUDIES
from distilscope.studies.settings import Setting, groups_of

DEFAULT = "smollm2_cpu"
"""The recipe whose defaults are listed where none is named."""

MAIN = tuple(dict.fromkeys(("temperatures", "seeds", *FLAT.values())))
"""Places of the settings listed first."""

COLUMN, WIDEST = 36, 110


def settings_help(recipe: str | None) -> str:
    """Every setting of a recipe or of a YAML file, main ones first, then by place. Raises UsageError for an unknown
    one."""
    from distilscope.cli.studies import laid_over

    name = recipe or DEFAULT
    groups = list(groups_of(laid_over(name, {})[0]))
    by_place = {one.place: one for group in groups for one in group.settings}
    other = "" if recipe else f" (of another: distilscope run {'|'.join(STUDIES)} --help)"
    lines = [f"settings, with the values of {Path(name).name}{other}:", "", "main settings:"]
    lines += [line for place in MAIN for line in _listed(by_place[place])]
    for group in groups:
        if others := [one for one in group.settings if one.place not in MAIN]:
            lines += ["", f"{group.place}: {group.meaning}" if group.place else "other settings of the study:"]
            lines += [line for one in others for line in _listed(one)]
    return "\n".join([*lines, ""])


def _listed(setting: Setting) -> list[str]:
    """`--name value` with the meaning to the right, or below where it does not fit."""
    name, *others = setting.names
    head, indent = f"  --{name} {_written(setting.value)}", " " * COLUMN
    meaning = setting.meaning + "".join(f" Also --{other}." for other in others if "." not in other)
    width = max(COLUMN + 24, min(WIDEST, shutil.get_terminal_size().columns - 2))
    text = textwrap.wrap(meaning, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(head) + 2 > COLUMN:
        return [head, *text]
    return [head.ljust(COLUMN) + text[0].lstrip(), *text[1:]]


def _written(value: Any) -> str:
    """A value as one writes it behind its name; an empty one as `""`."""
    if isinstance(value, tuple):
        return " ".join(map(_written, value)) or '""'
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'
