"""JSON documents as frozen records: read with every value checked, and written with their fields in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

import msgspec

from distilscope.evaluation.candidates import Candidate, SamplingParameters

Number = Annotated[float, msgspec.Meta(ge=-1e100, le=1e100)]
"""One whose square can be taken."""

Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]

T = TypeVar("T")

Note = Callable[[str], None]
"""Takes a sentence that a reader of the terminal should see."""


def unnoted(sentence: str) -> None:
    """Drops a note."""


class MisfitError(ValueError):
    """A document that is not what it should be; the message names the place."""


def record_of(document: Any, kind: type[T], note: Note = unnoted) -> T:
    """The record of a decoded document; what a newer version added is left out, and noted.

    Raises MisfitError for a value that is missing or of another kind: nothing is converted.
    """
    try:
        record = msgspec.convert(document, kind, dec_hook=_read)
    except msgspec.ValidationError as error:
        raise MisfitError(_sentence(str(error))) from None
    if unknown := list(_unknown(document, record, "$")):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        note(f"what this version does not know is left out: `{unknown[0]}`{more}")
    return record


def document_of(record: Any) -> Any:
    """What JSON holds of a record: fields in their order, without those at a default that the record omits."""
    if isinstance(record, Candidate | SamplingParameters):
        return record.as_json()
    if isinstance(record, msgspec.Struct):
        return {field.encode_name: document_of(value) for field, value in _written(record)}
    if isinstance(record, dict):
        return {name: document_of(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [document_of(value) for value in record]
    return record


def _written(record: msgspec.Struct) -> Iterator[tuple[msgspec.structs.FieldInfo, Any]]:
    unwritten = getattr(type(record), "unwritten", lambda _: ())(record)
    for field in _fields(type(record)):
        value = getattr(record, field.name)
        omitted = record.__struct_config__.omit_defaults and value == field.default
        if not omitted and field.name not in unwritten:
            yield field, value


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    if kind not in _KNOWN_FIELDS:
        _KNOWN_FIELDS[kind] = msgspec.structs.fields(kind)
    return _KNOWN_FIELDS[kind]


_KNOWN_FIELDS: dict[type[msgspec.Struct], tuple[msgspec.structs.FieldInfo, ...]] = {}


def _read(kind: type, value: Any) -> Any:
    if kind in (Candidate, SamplingParameters):
        return kind.from_json(value)
    raise NotImplementedError(f"documents hold no {kind}")


_KINDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "null"}
_KINDS |= {"object": "an object", "array": "a list"}


def _sentence(message: str) -> str:
    """What msgspec says of a misfit: the path of the value, then what is wrong with it."""
    what, _, where = message.partition(" - at ")
    where = where.strip("`") or "$"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"`{where}.{missing[1]}` is missing"
    if other := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        wanted = " or ".join(_KINDS.get(kind, kind) for kind in other[1].split(" | "))
        return f"`{where}` is {_KINDS.get(other[2], other[2])}, not {wanted}"
    return f"`{where}`: {what[:1].lower()}{what[1:]}"


def _unknown(document: Any, record: Any, where: str) -> Iterator[str]:
    """Where the document holds a field that the record's kind has not."""
    if isinstance(record, msgspec.Struct) and isinstance(document, dict):
        known = {field.encode_name: field.name for field in _fields(type(record))}
        for name, value in document.items():
            if name in known:
                yield from _unknown(value, getattr(record, known[name]), f"{where}.{name}")
            else:
                yield f"{where}.{name}"
    elif isinstance(record, dict):
        for name, value in record.items():
            yield from _unknown(document[name], value, f"{where}.{name}")
    elif isinstance(record, list | tuple):
        for i, (one, value) in enumerate(zip(document, record, strict=True)):
            yield from _unknown(one, value, f"{where}[{i}]")
