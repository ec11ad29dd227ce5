"""Which of a run's settings leaves it: the one asked for, else the one that is recommended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distilscope.errors import UsageError
from distilscope.evaluation.by_seed import DIRECT, Setting, setting_of


def chosen_setting(results: Mapping[str, Any], asked: str | None) -> Setting:
    """The setting of a results document that `asked` writes, such as temperature=0.8, 0.8, top_k=50,min_p=0.05 or
    direct.

    None asks for the recommended one. Raises UsageError, listing the choices, where there is no such setting and where
    none is recommended.
    """
    settings = {written(setting): setting for setting in map(setting_of, results["students"])}
    choices = "choose one with --setting: " + ", ".join(settings)
    if asked is None:
        recommended = results["recommendation"]["setting"]
        if recommended is None:
            raise UsageError(f"this run recommends no setting ({results['recommendation']['reason']}); {choices}")
        return recommended
    for text, setting in settings.items():
        if _read(text) == _read(asked):
            return setting
    raise UsageError(f"the run has no setting {asked!r}; {choices}")


def written(setting: Setting) -> str:
    """As the command line takes it: temperature=0.8; top_k=50,min_p=0.05; direct."""
    if setting == DIRECT:
        return "direct"
    return ",".join(f"{name}={value:g}" for name, value in setting.items() if name != "training")


def sampling(setting: Setting) -> dict[str, float | int] | None:
    """The teacher's selectivity; None where there is no teacher."""
    return None if setting == DIRECT else {name: value for name, value in setting.items() if name != "training"}


def _read(text: str) -> str | dict[str, float | str]:
    """What two ways to write one setting have in common."""
    if text.strip() == "direct":
        return "direct"
    found: dict[str, float | str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name, value = (name.strip().replace("-", "_"), value) if equals else ("temperature", name)
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found
