"""Settings by dotted name: defaults < YAML < command line, each key known and each value of its type.

The main sampling have flat names (`FLAT`); everything else is named by its place, as in `teacher.training.epochs`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from distilscope.errors import UsageError, one_line, shown, unknown_name

FLAT = {
    "reference": "ground_truth.reference",
    "teacher": "teacher.reference",
    "student": "student.reference",
    "reference_draws": "ground_truth.draws",
    "prompt": "ground_truth.prompt",
    "prompts": "ground_truth.prompts",
    "chat_template": "ground_truth.chat_template",
    "horizon": "ground_truth.horizon",
    "vocabulary": "ground_truth.vocabulary",
    "num_train": "ground_truth.num_train",
    "num_eval": "ground_truth.num_eval",
}

C = TypeVar("C")


def override(config: C, settings: Mapping[str, Any], *, also: Sequence[str] = ()) -> C:
    """The configuration with these settings changed; values may be text, as a command line gives them.

    Raises UsageError for an unknown name, naming the nearest (those in `also` included), or for a value of the wrong
    type.
    """
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        dotted = name.replace("-", "_")
        *groups, last = FLAT.get(dotted, dotted).split(".")
        converted = _convert_at(config, [*groups, last], value, name, [*names(config), *FLAT, *also])
        place = changes
        for group in groups:
            place = place.setdefault(group, {})
        if last in place:
            raise UsageError(
                f"{name} sets {'.'.join([*groups, last])}, which is set already under another name; give it once"
            )
        place[last] = converted
    return _replace(config, changes)


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, each under the name of its place."""
    return {FLAT.get(dotted, dotted): value for name, value in settings.items() for dotted in [name.replace("-", "_")]}


def _replace(config: Any, changes: Mapping[str, Any]) -> Any:
    """All changes at once, so that settings which are right only together may come in any order."""
    return dataclasses.replace(
        config,
        **{
            name: _replace(getattr(config, name), change) if isinstance(change, dict) else change
            for name, change in changes.items()
        },
    )


def names(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by dotted name, with its value."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found |= (
            names(value, f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else {prefix + field.name: value}
        )
    return found


def _convert_at(config: Any, path: Sequence[str], value: Any, name: str, known: Sequence[str]) -> Any:
    """The value as the setting at `path` takes it; `known` are the names to choose the nearest from."""
    here = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "recipe"}
    if path[0] not in here or dataclasses.is_dataclass(here[path[0]]) != (len(path) > 1):
        raise unknown_name(
            "option", name.replace("_", "-"), (key.replace("_", "-") for key in known if key != "recipe")
        )
    if len(path) > 1:
        return _convert_at(here[path[0]], path[1:], value, name, known)
    return _convert(value, typing.get_type_hints(type(config))[path[0]], name.replace("_", "-"))


def _convert(value: Any, kind: Any, name: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        values = value if isinstance(value, list | tuple) else [value]
        if parts[-1] is not Ellipsis and len(values) != len(parts):
            raise UsageError(f"{name} takes {len(parts)} values, but {len(values)} were given")
        return tuple(_convert(item, parts[0], name) for item in values)
    if origin in (types.UnionType, typing.Union):
        return None if value is None or value == "none" else _convert(value, parts[0], name)
    if isinstance(value, list | tuple):
        value = _single(value, kind, name)
    if isinstance(value, bool) != (kind is bool) and not isinstance(value, str):
        raise UsageError(f"{name} is {shown(value)}, but must be {_WHAT[kind]}")
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise UsageError(f"{name} is {shown(value)}, but must be true or false")
        return value.lower() == "true"
    if kind is str and not isinstance(value, str):
        raise UsageError(f"{name} is {shown(value)}, but must be text; put it in quotes")
    if kind is int and isinstance(value, float):
        raise UsageError(f"{name} is {shown(value)}, but must be a whole number")
    try:
        converted = kind(value)
        if isinstance(converted, int) and abs(converted) >= 1 << 63:
            raise UsageError(f"{name} is {shown(converted)}, but a whole number must be below 2^63 in size")
        return converted
    except (ValueError, TypeError, OverflowError):
        comma = (
            f"; write {value.replace(',', '.')}"
            if isinstance(value, str) and kind is float and _is_number(value.replace(",", "."))
            else ""
        )
        raise UsageError(f"{name} is {shown(value)}, but must be {_WHAT[kind]}{comma}") from None


def _single(values: Sequence[Any], kind: Any, name: str) -> Any:
    """The one value that the command line gave; a switch may stand without any."""
    if not values and kind is bool:
        return True
    if not values:
        raise UsageError(f"{name} has no value; write one behind it")
    if len(values) != 1:
        raise UsageError(f"{name} takes one value, but {len(values)} were given ({shown(values)})")
    return values[0]


_WHAT = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_settings(config: Any) -> dict[str, Any]:
    """The configuration as nested plain values, ready for YAML or JSON."""
    return {
        field.name: as_settings(value)
        if dataclasses.is_dataclass(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset, with a key given twice refused instead of silently taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for name, _ in node.value:
            key = self.construct_object(name, deep=True)
            if key in seen:
                raise UsageError(f"line {node.start_mark.line + 1} on gives the key {shown(key)} twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


LONGEST_NAME = 200
"""Characters of a setting's dotted name."""

LARGEST = 1 << 18
"""Characters of a configuration file, and values in it with every alias written out."""


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
        _require_small(yaml.compose(text, Loader=_StrictLoader), path)
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


def _require_small(root: yaml.Node | None, path: Path) -> None:
    """Raises UsageError where aliases written out would be endless, or more than a configuration can need."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = None  # under way: met again before it is done, it contains itself
            parts = [part for pair in node.value for part in (pair if isinstance(node, yaml.MappingNode) else [pair])]
            sizes[id(node)] = 1 + sum(map(size, parts))
        found = sizes[id(node)]
        if found is None:
            raise UsageError(
                f"{path} has a key whose value contains itself (an alias of its own anchor); write the values out"
            )
        return found

    if root is not None and size(root) > LARGEST:
        raise UsageError(
            f"{path} holds more than {LARGEST:,} values once its aliases are written out, which no configuration needs"
        )


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
