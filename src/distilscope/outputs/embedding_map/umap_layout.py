"""Points of many dimensions laid out on a plane, with the paper's settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from distilscope.errors import UsageError

SETTINGS: dict[str, Any] = {"n_neighbors": 5, "min_dist": 0.001, "metric": "cosine"}
"""Of UMAP, as in appendix A of the paper."""

Layout = Callable[[Float[np.ndarray, "n d"], int], Float[np.ndarray, "n 2"]]
"""Vectors and a seed to places on a plane."""


def umap() -> Layout:
    """UMAP, which gives the same plane for the same vectors and seed, on one thread. UsageError where it is not
    installed."""
    import torch

    try:
        from umap import UMAP
    except ImportError:
        raise UsageError(
            "a map needs umap-learn, which is not installed here; run `pip install 'distilscope[map]'` and try again"
        ) from None

    def lay_out(vectors: Float[np.ndarray, "n d"], seed: int) -> Float[np.ndarray, "n 2"]:
        threads = torch.get_num_threads()
        with (
            _seeded(seed),
            warnings.catch_warnings(),
        ):  # where few texts lie far apart UMAP begins at random, by the seed too
            warnings.filterwarnings("ignore", "Spectral initialisation failed")
            try:
                return UMAP(**SETTINGS, random_state=seed, n_jobs=1).fit_transform(vectors)
            # Numba, when it starts OpenMP's threads, sets their number to that of all cores, for torch as well
            finally:
                torch.set_num_threads(threads)

    return lay_out


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """UMAP begins with eigenvectors, whose search SciPy begins again from numbers that nobody has seeded, and UMAP
    cannot tell it to."""
    from scipy.sparse import linalg

    found = linalg.eigsh
    linalg.eigsh = partial(found, rng=seed)
    try:
        yield
    finally:
        linalg.eigsh = found
