"""Precision and recall by nearest neighbours, of texts as points: a second opinion that asks no model for
probabilities.

Improved precision and recall of Kynkäänniemi et al. 2019 (arXiv 1904.06991). A set of points covers another point that
lies in a ball around one of its own, as large as reaches that one's k-th nearest other point of the set. Precision is
the share of a candidate's points that the reference's cover, recall the share of the reference's points that the
candidate's cover. Both depend on the numbers of points and on the embedding, so that they are compared with the same
numbers elsewhere, never read by themselves.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

K = 3
"""As in their paper."""

_PIECE = 512
"""Rows of distances that are held at once."""


def neighbour_precision(
    *, candidate: Float[np.ndarray, "m d"], reference: Float[np.ndarray, "n d"], k: int = K
) -> float:
    return covered(candidate, by=reference, k=k)


def neighbour_recall(*, candidate: Float[np.ndarray, "m d"], reference: Float[np.ndarray, "n d"], k: int = K) -> float:
    return covered(reference, by=candidate, k=k)


def covered(points: Float[np.ndarray, "m d"], *, by: Float[np.ndarray, "n d"], k: int = K) -> float:
    """The share of `points` that lie within reach of `by`. ValueError unless `by` has more than k points."""
    from scipy.spatial.distance import cdist
    from sklearn.neighbors import NearestNeighbors

    if len(by) <= k:
        raise ValueError(f"{len(by)} points have no {k}-th nearest other one")
    centres = by.astype(np.float64)
    others = NearestNeighbors(n_neighbors=k, algorithm="ball_tree").fit(
        centres
    )  # the tree's distances are plain differences, as below
    radii = others.kneighbors(return_distance=True)[0][:, -1]
    pieces = np.split(points.astype(np.float64), range(_PIECE, len(points), _PIECE))
    return float(np.concatenate([(cdist(piece, centres) <= radii).any(axis=1) for piece in pieces]).mean())
