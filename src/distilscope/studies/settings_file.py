"""Reads a YAML file of settings: plain names and values, each key once, no anchors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from distilscope.errors import UsageError, one_line, shown

LONGEST_NAME = 200
"""Characters of a setting's dotted name."""

LARGEST = 1 << 18
"""Characters of a file of settings."""


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset without anchors and aliases, with a key given twice refused instead of silently taking the
    last.

    A few lines of aliases can stand for more values than any memory holds, or for a value that contains itself.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise UsageError(
                f"line {event.start_mark.line + 1} has an anchor or alias ({shown(event.anchor)}), which settings do "
                "without; write the values out"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for name, _ in node.value:
            key = self.construct_object(name, deep=True)
            if key in seen:
                raise UsageError(f"line {node.start_mark.line + 1} on gives the key {shown(key)} twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, flattened to dotted names. Raises UsageError for one that cannot be read or is no
    plain YAML."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UsageError(
                f"{path} has more than {LARGEST:,} characters, which no configuration needs; give the file of a study"
            )
        document = yaml.load(text, Loader=_StrictLoader)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; give a recipe's name or a YAML file") from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OSError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise UsageError(f"{path} is not plain YAML ({reason}); write names and values, such as 'seeds: 3'") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds a {type(document).__name__}, but must hold keys and values, such as 'seeds: 3'")
    return _flatten(document)


def _flatten(document: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if len(name) > LONGEST_NAME:
            raise UsageError(
                f"the key {shown(name)} has {len(name):,} characters, but no setting has such a name; give a shorter "
                "one"
            )
        flat |= _flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
