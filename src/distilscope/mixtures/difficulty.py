"""Difficulty of a selected teacher for a student with few components (section 3.1 of the paper)."""

from __future__ import annotations

from distilscope.errors import UsageError
from distilscope.mixtures.gaussian_mixture import GaussianMixture
from distilscope.selectivity import Selectivity


def difficulty(
    *,
    ground_truth: GaussianMixture,
    teacher: GaussianMixture,
    by: Selectivity,
    student_components: int,
    epsilon: float = 0.05,
) -> int:
    """|union of sigma(k) over teacher components k with selected weight above epsilon| - K''.

    sigma(k) is the set of ground-truth components for whose mean component k of the teacher *as fitted* is the most
    responsible: selectivity changes which components are emphasised, not what each of them covers. 0 means that the
    student has one component for each emphasised one. Where every component is above epsilon at beta = 1, the
    difficulty never rises with beta: d/dbeta log alpha_k(beta) = log alpha_k - E_beta[log alpha], which only falls, so
    each selected weight rises and then falls. (The formula printed by Cha & Cho, arXiv 2505.13111, has the sign and the
    threshold the other way round; their text describes this one.)
    """
    if not 0 <= epsilon < 1:
        raise UsageError(f"epsilon is {epsilon!r}, but must be at least 0 and below 1; the usual value is 0.05")
    sigma = teacher.most_responsible(ground_truth.means)
    emphasised = teacher.select(by).weights > epsilon
    return int(emphasised[sigma].sum()) - student_components
