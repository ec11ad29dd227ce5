"""Settings by dotted name: defaults < YAML < command line, each key known and each value of its type.

The main settings have flat names (`FLAT`); every other one is named by its place, as in `teacher.training.epochs`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from distilscope.errors import UsageError, shown, unknown_name

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
    # the names by which `measure` knows the same things
    "max_new_tokens": "ground_truth.horizon",
    "num_samples": "ground_truth.num_eval",
}
"""The place of each flat name. Where a place has two, the first is the one that help and documents use."""

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
