"""What a finished run, or a simulation of mixtures, left for other commands to read: its results.json, and maybe a
map.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distilscope.errors import UsageError, one_line, shown

SCHEMA_VERSION = 1

MAP = "map.json"
MAP_SCHEMA_VERSION = 1


def read_results(folder: Path, *, mixtures: bool = False) -> dict[str, Any]:
    """The document of a run's results.json; with `mixtures`, also that of `distilscope mog`.

    Raises UsageError where the run is not finished or its file is of another schema.
    """
    path = folder / "results.json"
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the one that `distilscope run` named")
    if not path.is_file():
        raise UsageError(
            f"{folder} is no finished run: it lacks results.json; give the same `distilscope run` command again to "
            "finish it"
        )
    try:
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        version = results["schema_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read ({type(error).__name__}: {one_line(error)}); run the study again"
        ) from None
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{folder} holds results of schema {shown(version)}, this version reads {SCHEMA_VERSION}; run the study "
            "again"
        )
    if "mixtures" in results and not mixtures:
        raise UsageError(
            f"{folder} holds mixtures of Gaussians, which only `distilscope figures` reads; give the folder of a "
            "`distilscope run`"
        )
    if misfit := _misfit(results, _SHAPE, ""):
        raise UsageError(f"{path} cannot be read ({misfit} is not what a study writes there); run the study again")
    return results


def read_map(folder: Path) -> dict[str, Any] | None:
    """The document of a run's map.json, or None where `distilscope map` has not left one. Raises UsageError for what is
    no map."""
    path = folder / MAP
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        why = (
            "its schema is another one"
            if found["schema_version"] != MAP_SCHEMA_VERSION
            else _misfit(found, _MAP_SHAPE, "")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        found, why = None, f"{type(error).__name__}: {one_line(error)}"
    if why:
        raise UsageError(
            f"{path} cannot be read ({why}); remove it, or draw the map again with `distilscope map {folder}`"
        )
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _number(value: Any) -> bool:
    """Also not one whose square is too large to be one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _whole(value: Any) -> bool:
    return _number(value) and isinstance(value, int)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _parameters(value: Any) -> bool:
    """A setting, whose values find their way into code that is shown."""
    known = {"temperature": _number, "top_k": _whole, "top_p": _number, "min_p": _number}
    return isinstance(value, dict) and all(
        name in known and known[name](parameter) for name, parameter in value.items()
    )


_STUDENT: dict[str, Any] = {
    "training": lambda value: value in ("direct", "distilled"),
    "seed": _whole,
    "temperature": _number,
    "evaluation_temperature": _number,
    "selectivity": _parameters,
    "evaluation_selectivity": _parameters,
    "variant": lambda value: isinstance(value, dict),
    "precision": {"mean": _number},
    "recall": {"mean": _number},
}
_SHAPE: dict[str, Any] = {
    "unit": _text,
    "recipe": _text,
    "ground_truth": {"horizon": _whole},
    "students": [_STUDENT],
    "controls": [_STUDENT],
    "sources": {"prompts": {"sha256": _text, "number": _whole, "longest": _whole}},
}
_INTERVALS: dict[str, Any] = {
    name: {"mean": _number, "half_width": _number, "n": _whole} for name in ("precision", "recall")
}
_MAP_SHAPE: dict[str, Any] = {
    "note": _text,
    "embedder": {"reference": _text},
    "neighbours": {
        "k": _whole,
        "n_reference": _whole,
        "n_candidate": _whole,
        "groups": [{"role": _text, "selectivity": _parameters, **_INTERVALS}],
        "ceiling": _INTERVALS,
    },
    "points": [{"role": _text, "selectivity": _parameters, "x": _number, "y": _number, "text": _text}],
}
"""What commands read, where it stands: each value is of this kind, or null, or absent; a name not listed may hold
anything."""


def _misfit(value: Any, shape: Any, where: str) -> str | None:
    """The first place that is not of its shape."""
    if value is None:
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return where
        parts = ((f"{where}[{i}]", one) for i, one in enumerate(value))
        return next((found for at, one in parts if (found := at if one is None else _misfit(one, shape[0], at))), None)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return where
        return next(
            (
                found
                for name, one in shape.items()
                if (found := _misfit(value.get(name), one, f"{where}.{name}".strip(".")))
            ),
            None,
        )
    return None if shape(value) else where
