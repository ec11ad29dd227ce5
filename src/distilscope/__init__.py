"""Distilscope: what a teacher's selectivity does to a student's precision and recall, in numbers one can trust."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distilscope.distribution import Key as Key
    from distilscope.evaluation.precision_recall import precision_recall as precision_recall
    from distilscope.lm.loading import load as load
    from distilscope.mixtures.gaussian_mixture import GaussianMixture as GaussianMixture
    from distilscope.selectivity import MinP as MinP
    from distilscope.selectivity import Power as Power
    from distilscope.selectivity import Temperature as Temperature
    from distilscope.selectivity import TopK as TopK
    from distilscope.selectivity import TopP as TopP
    from distilscope.studies.measure.measure import measure as measure
    from distilscope.studies.run import run as run

_HOME = {
    "load": "distilscope.lm.loading",
    "GaussianMixture": "distilscope.mixtures.gaussian_mixture",
    "Temperature": "distilscope.selectivity",
    "Power": "distilscope.selectivity",
    "TopK": "distilscope.selectivity",
    "TopP": "distilscope.selectivity",
    "MinP": "distilscope.selectivity",
    "Key": "distilscope.distribution",
    "measure": "distilscope.studies.measure.measure",
    "precision_recall": "distilscope.evaluation.precision_recall",
    "run": "distilscope.studies.run",
}

__all__ = [
    "GaussianMixture",
    "Key",
    "MinP",
    "Power",
    "Temperature",
    "TopK",
    "TopP",
    "load",
    "measure",
    "precision_recall",
    "run",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `distilscope --help` loads no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'distilscope' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
