"""Recipes: functions that return a frozen configuration of a study. One derives from another by `replace`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from distilscope.errors import unknown_name

if TYPE_CHECKING:
    from distilscope.studies.config import Distillation

STUDIES = ("distil", "smollm2_cpu", "smollm2_paper", "tiny")


def recipe(name: str, settings: Mapping[str, Any] | None = None) -> Distillation:
    """The configuration of a study's recipe; UsageError, naming the nearest, where there is none.

    settings: those that will be laid over it, by their places; `distil` chooses its defaults by the references among
    them.
    """
    if name not in STUDIES:
        raise unknown_name("recipe", name, STUDIES)
    given = {
        role: settings[f"{role}.reference"]
        for role in ("teacher", "student")
        if settings and f"{role}.reference" in settings
    }
    starts = {role: value[0] if isinstance(value, list) and value else value for role, value in given.items()}
    known = {
        role: value for role, value in starts.items() if isinstance(value, str)
    }  # another value is refused with the settings
    return getattr(import_module(f"distilscope.studies.recipes.{name}"), name)(**(known if name == "distil" else {}))
