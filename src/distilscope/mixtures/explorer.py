"""Data of the interactive explorer of mixtures: seed 0 of the simulation at every position of its sliders.

The sliders are beta, the numbers of teacher and student components, and the teacher component with the heaviest weight.
That weight is exchanged with the component's own; the others are as fitted. Beta then selects, and a student is fitted
on draws of the selected teacher. Where the heaviest component is the fitted one, the student is the simulation's own:
what `distilscope mog` with these settings prints for seed 0. The page itself computes precision, recall and entropy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distilscope.errors import UsageError
from distilscope.mixtures.config import MogPaper, beta_as_json
from distilscope.mixtures.em import fit_many
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.mixtures.quadrature import exact_entropy
from distilscope.mixtures.simulation import Repetition
from distilscope.selectivity import Power
from distilscope.system.thread_pool import one_thread

BETAS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0, 100.0, math.inf)
TEACHER_COMPONENTS = (2, 3, 4, 5, 6, 7, 8)
STUDENT_COMPONENTS = (1, 2, 3, 4)

_DIGITS = 8
"""Significant digits of every number: far more than the picture or the stated tolerance needs."""

_MOST_POINTS = 300
"""Draws of p* that are shown."""


def explorer_document(config: MogPaper) -> dict[str, Any]:
    """The explorer's document, a function of the configuration alone.

    The configuration's own beta and numbers of components are among the positions, and the explorer starts there. A
    mixture is a list of components, each [log weight, mean 1, mean 2, variance 1, variance 2]; a teacher's are sorted
    by angle. Raises UsageError unless p* is 2-D and covariances are diagonal.
    """
    if config.dimension != 2 or config.covariance != "diag":
        raise UsageError(
            f"the explorer shows diagonal mixtures in 2 dimensions, not {config.covariance} ones in "
            f"{config.dimension}; "
            "use --dimension 2, or leave out --open"
        )
    betas = sorted({*BETAS, *config.betas})
    teachers = sorted({k for k in TEACHER_COMPONENTS if k <= config.num_train} | {config.teacher_components})
    students = sorted(
        {k for k in STUDENT_COMPONENTS if k <= min(config.num_train, config.num_distill)} | {config.student_components}
    )
    with one_thread():
        runs = {k: Repetition(replace(config, teacher_components=k, student_components=1), 0) for k in teachers}
        direct = {k: Repetition(replace(config, student_components=k), 0).direct.mixture for k in students}
        truth, run = config.ground_truth(), runs[config.teacher_components]
        return {
            "schema_version": 1,
            "unit": "nats per draw",
            "num_train": config.num_train,
            "num_distill": config.num_distill,
            "epsilon": config.epsilon,
            "start": {
                "beta": beta_as_json(max(config.betas)),
                "teacher_components": config.teacher_components,
                "student_components": config.student_components,
            },
            "betas": [beta_as_json(beta) for beta in betas],
            "ground_truth": _components(truth),
            "entropy": exact_entropy(truth),
            "points": _rounded(run.points[:_MOST_POINTS]),
            "teachers": {
                str(k): [_components(run.teacher.mixture)[at] for at in _around(run.teacher.mixture)]
                for k, run in runs.items()
            },
            "direct": {str(k): _components(mixture) for k, mixture in direct.items()},
            "students": {str(k): _students(run, betas, students) for k, run in runs.items()},
        }


def with_heaviest(mixture: GaussianMixture, winner: int) -> GaussianMixture:
    """The mixture after exchanging the heaviest weight with that of component `winner`."""
    weights = mixture.log_weights.clone()
    heaviest = int(weights.argmax())
    weights[[heaviest, winner]] = weights[[winner, heaviest]]
    return mixture if winner == heaviest else replace(mixture, log_weights=weights)


def _students(run: Repetition, betas: list[float], components: list[int]) -> dict[str, list[list[Any]]]:
    """Students by their number of components: for each heaviest component, by angle, a mixture per beta."""
    led = [with_heaviest(run.teacher.mixture, winner) for winner in _around(run.teacher.mixture)]
    draws = torch.stack(
        [one.select(Power(beta)).sample(run.config.num_distill, run.key("D'", beta)) for one in led for beta in betas]
    )
    found = {}
    for k in components:
        keys = [run.key("distilled", beta) for _ in led for beta in betas]
        fits = fit_many(draws, components=k, key=keys, covariance="diag", n_init=run.config.n_init)
        mixtures = [_components(fits[i].mixture) for i in range(len(fits))]
        found[str(k)] = [mixtures[start : start + len(betas)] for start in range(0, len(mixtures), len(betas))]
    return found


def _around(mixture: GaussianMixture) -> list[int]:
    """Indices of the components by the angle of their means, so that a step of the slider moves to a neighbour."""
    return torch.atan2(mixture.means[:, 1], mixture.means[:, 0]).argsort(stable=True).tolist()


def _components(mixture: GaussianMixture) -> list[list[float]]:
    return _rounded(torch.cat([mixture.log_weights[:, None], mixture.means, mixture.covariances], 1))


def _rounded(values: Float[Tensor, "n m"]) -> list[list[float]]:
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in values.tolist()]
