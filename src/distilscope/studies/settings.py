"""Every setting of a study with its name, value and meaning, read from the fields of the configuration themselves.

The meaning of a field is the first line of the text under it in the source. No library is loaded for it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from distilscope.studies.overrides import FLAT


@dataclass(frozen=True)
class Setting:
    """One setting of a configuration."""

    place: str
    """Its dotted name, such as `teacher.training.epochs`."""
    value: Any
    meaning: str
    """In one line."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called on the command line, without dashes in front; the documented name first."""
        flat = [name for name, place in FLAT.items() if place == self.place]
        return tuple(name.replace("_", "-") for name in (*flat, self.place))


@dataclass(frozen=True)
class Group:
    """The settings of one part of a configuration, without those of the parts below it."""

    place: str
    """Its dotted name, such as `teacher.training`; empty for the study as a whole."""
    meaning: str
    """In one line."""
    settings: tuple[Setting, ...]


def groups_of(config: Any, place: str = "", meaning: str = "") -> Iterator[Group]:
    """Every part of a configuration, a part before those below it. The recipe's name is no setting."""
    said, prefix = meanings(type(config)), f"{place}." if place else ""
    values = {name: getattr(config, name) for name in (field.name for field in dataclasses.fields(config))}
    parts = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    own = [name for name in values if name not in parts and prefix + name != "recipe"]
    yield Group(place, meaning, tuple(Setting(prefix + name, values[name], said[name]) for name in own))
    for name, part in parts.items():
        yield from groups_of(part, prefix + name, said[name])


def meanings(kind: type) -> Mapping[str, str]:
    """The first line of the text under each field of a dataclass, inherited fields included."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if dataclasses.is_dataclass(owner):
            found |= _under_fields(owner.__module__).get(owner.__qualname__, {})
    return found


@cache
def _under_fields(module: str) -> dict[str, dict[str, str]]:
    """By class, the first line of the string that stands under each annotated name of a module's classes."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        each.name: {
            line.target.id: text.value.value.strip().split("\n")[0]
            for line, text in zip(each.body, each.body[1:], strict=False)
            if isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for each in tree.body
        if isinstance(each, ast.ClassDef)
    }
