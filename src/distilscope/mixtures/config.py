"""Configuration of the simulation on Gaussian mixtures, section 3.2 of Cha & Cho (arXiv 2505.13111).

Importing this loads no torch, so that the command line can name its defaults at once.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from distilscope.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from distilscope.mixtures.gaussian_mixture import GaussianMixture

VARIANCE = 0.025
"""Variance of every component of p*, on every axis."""

DEFAULT_DRAWS = 100_000
"""Evaluation draws of each side in Monte Carlo, unless `num_eval` is given."""


@dataclass(frozen=True)
class MogPaper:
    """The simulation's configuration. Seed s of S fixes D (`num_train` draws of p*), teacher, D' and both students.

    Up to 2 dimensions precision and recall are exact, by quadrature, unless `num_eval` asks for Monte Carlo; beyond,
    they are Monte Carlo over `num_eval` draws of each side (100 000 unless given). `exact` refuses anything but
    quadrature. Raises UsageError for values that cannot be run.
    """

    betas: tuple[float, ...] = (1.0, 5.0, 100.0)
    """The teacher's selectivity, each above 0; inf is the argmax limit."""
    seeds: int = 5
    num_train: int = 100
    """Draws of p* that teacher and direct student are fitted on; the paper's code uses 100."""
    num_distill: int = 1000
    """Draws of the selected teacher that each distilled student is fitted on."""
    teacher_components: int = 4
    student_components: int = 1
    dimension: int = 2
    covariance: Literal["diag", "full"] = "diag"
    n_init: int = 1
    """Starts of EM; the fit with the highest likelihood is kept."""
    epsilon: float = 0.05
    """Selected weight above which a teacher component counts towards the difficulty."""
    exact: bool = False
    as_published: bool = False
    """Also score as the released notebook does, its mistake included."""
    num_eval: int | None = None

    def __post_init__(self) -> None:
        _check_betas(self.betas)
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        for name in (
            "seeds",
            "num_train",
            "num_distill",
            "teacher_components",
            "student_components",
            "dimension",
            "n_init",
        ):
            _check_whole(name, getattr(self, name), least=2 if name in ("num_train", "num_distill") else 1)
        for who, components, points in (
            ("teacher_components", self.teacher_components, "num_train"),
            ("student_components", self.student_components, "num_train"),
            ("student_components", self.student_components, "num_distill"),
        ):
            if components > getattr(self, points):
                raise UsageError(
                    f"{who} is {components}, but must not exceed {points} ({getattr(self, points)}); fit fewer or "
                    "draw more points"
                )
        if self.covariance not in ("diag", "full"):
            raise unknown_name("covariance", str(self.covariance), ("diag", "full"))
        if not 0 <= self.epsilon < 1:
            raise UsageError(
                f"epsilon is {self.epsilon!r}, but must be at least 0 and below 1; the usual value is 0.05"
            )
        if self.num_eval is not None:
            _check_whole("num_eval", self.num_eval, least=2)
        if self.exact and self.dimension > 2:
            raise UsageError(
                f"dimension is {self.dimension}, but exact quadrature needs 1 or 2; leave out --exact for Monte Carlo "
                "with standard errors"
            )
        if self.exact and self.num_eval is not None:
            raise UsageError(f"num_eval is {self.num_eval}, but --exact draws nothing to evaluate; give one of the two")

    @property
    def uses_quadrature(self) -> bool:
        """Whether precision and recall are exact."""
        return self.dimension <= 2 and self.num_eval is None

    @property
    def is_published_setting(self) -> bool:
        """Whether the published numbers are for this configuration (at beta = 100)."""
        paper = MogPaper()
        names = ("num_train", "num_distill", "teacher_components", "student_components", "dimension", "covariance")
        return all(getattr(self, name) == getattr(paper, name) for name in names)

    def ground_truth(self) -> GaussianMixture:
        return ground_truth(self.dimension)

    def as_json(self) -> dict[str, Any]:
        """The configuration as JSON: without infinity, and with `num_eval` resolved."""
        draws = None if self.uses_quadrature else self.num_eval or DEFAULT_DRAWS
        betas = [beta_as_json(beta) for beta in self.betas]
        return asdict(self) | {"betas": betas, "exact": self.uses_quadrature, "num_eval": draws}


def mog_paper() -> MogPaper:
    """The paper's setting, with five seeds and three values of beta; others derive from it by `replace`."""
    return MogPaper()


def ground_truth(dimension: int = 2) -> GaussianMixture:
    """p* of section 3.2: eight equal components with covariance 0.025 I.

    In 2-D their means are the grid {-1, 0, 1}^2 without its centre. The paper says nothing of other dimensions. Here,
    in 1-D, they lie at -3.5, -2.5, ..., 3.5: as many, equally far apart. In d > 2 they lie on the 2-D ring
    in the first two axes and at 0 in the others.
    """
    from distilscope.mixtures.gaussian_mixture import GaussianMixture

    if dimension == 1:
        means = [[i - 3.5] for i in range(8)]
    else:
        ring = [(x, y) for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0) if (x, y) != (0.0, 0.0)]
        means = [[*point, *[0.0] * (dimension - 2)] for point in ring]
    return GaussianMixture.of(weights=[1 / 8] * 8, means=means, covariances=[[VARIANCE] * dimension] * 8)


def beta_as_json(beta: float) -> float | Literal["inf"]:
    """JSON has no Infinity."""
    return "inf" if math.isinf(beta) else beta


def _check_betas(betas: tuple[float, ...]) -> None:
    if not betas:
        raise UsageError("no beta was given, but at least one is needed; 1 leaves the teacher as it is")
    for beta in betas:
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not beta > 0:
            raise UsageError(
                f"beta is {beta!r}, but must be a number above 0 (inf is the argmax limit); use 1 to change nothing"
            )
    for i, beta in enumerate(betas):
        if beta in betas[:i]:
            raise UsageError(f"beta {beta:g} is given twice, but each is fitted once; leave out the second")


def _check_whole(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} is {value!r}, but must be a whole number of at least {least}")
