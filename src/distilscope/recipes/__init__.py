"""Recipes: functions that return a frozen configuration of a study. One derives from another by `replace`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from distilscope.errors import unknown_name

if TYPE_CHECKING:
    from distilscope.distillation import Distillation

STUDIES = {
    "smollm2_cpu": "the paper's three stages on SmolLM2-135M-Instruct, for two CPU cores (about a quarter of an hour)",
    "smollm2_paper": "the paper's own sizes: 1.7B, 360M, 135M; 10M sequences of 512 tokens (a cluster)",
    "tiny": "the same plan on a seeded byte model, in under a minute",
}


def recipe(name: str) -> Distillation:
    """The configuration of a study's recipe; UsageError, naming the nearest, where there is none."""
    if name not in STUDIES:
        raise unknown_name("recipe", name, STUDIES)
    return getattr(import_module(f"distilscope.recipes.{name}"), name)()
