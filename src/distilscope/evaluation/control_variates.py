"""Means of draws with less noise: regression on controls whose expectation is known to be zero.

For a language model each step's log-probability has an exact expectation under what drew the token, so that the
deviations add up to a martingale with mean zero (Amini et al. 2504.10637 condition on each step in the same way). The
part of the noise that such a deviation explains is taken out by least squares: the estimate is the intercept of a
regression on [1, controls]. It is linear in the values with weights that do not depend on them, so whatever holds
between sums (KL = -H - P) holds between estimates, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from distilscope.evaluation.estimate import Estimate

FEWEST = 30
"""Fewer draws are averaged plainly: the fitted coefficients would cost more than they save, and bias the mean by about
1/n."""


NOISE = 1e-4
"""Two controls that differ by less, relative to their size, are one. Those of a model and of the same model sharpened
are proportional but for rounding; that remainder has no mean of zero, and fitted it biased estimates by two standard
errors."""


class Mean:
    """How the mean over a set of draws is taken; the same weights serve every quantity that is measured on them.

    controls: arrays of shape (n,) with expectation zero; one that is not finite throughout is left out. clusters: for
    each draw, which group of dependent draws (a prompt) it belongs to; the standard error is then between groups.
    """

    def __init__(
        self, n: int, *, controls: Sequence[Float[np.ndarray, " n"]] = (), clusters: Int[np.ndarray, " n"] | None = None
    ) -> None:
        usable = [c for c in controls if n >= FEWEST and np.isfinite(c).all() and np.abs(c).max() > 0]
        self._design = np.column_stack([np.ones(n), *(c / np.sqrt(np.mean(np.square(c))) for c in usable)])
        self._solve = np.linalg.pinv(self._design, rcond=NOISE)
        self._rank = int(np.linalg.matrix_rank(self._design, rtol=NOISE))
        self._clusters = (
            np.arange(n)
            if clusters is None or len(np.unique(clusters)) == 1
            else np.unique(clusters, return_inverse=True)[1]
        )

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """They sum to 1."""
        return self._solve[0]

    def estimate(self, values: Float[np.ndarray, " n"]) -> Estimate:
        """Mean and standard error (robust to unequal variances: HC1, or its form for clusters); plain where a value is
        infinite."""
        plain = Estimate.of(values)
        if plain.mean is None or len(values) <= self._rank:
            return plain
        return Estimate(float(self.weights @ values), float(np.sqrt(np.square(self.errors(values)).sum())), len(values))

    def errors(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " groups"]:
        """What each group, in the order of its number, adds to the error: the squares sum to the variance of the
        estimate, the products with those of other draws of the same groups to the covariance. Values are finite, and
        more than there are controls.

        Cameron and Miller, A practitioner's guide to cluster-robust inference (2015), equation 11.
        """
        n, groups = len(values), int(self._clusters.max()) + 1
        residual = values - self._design @ (self._solve @ values)
        between = np.bincount(self._clusters, self.weights * residual)
        return between * np.sqrt(groups / (groups - 1) * (n - 1) / (n - self._rank))
