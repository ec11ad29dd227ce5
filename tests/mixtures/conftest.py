"""Mixtures that several tests share."""

import pytest
import torch

from distilscope.mixtures.gaussian_mixture import GaussianMixture


@pytest.fixture
def ring() -> GaussianMixture:
    """p* of section 3.2, written out."""
    means = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    return GaussianMixture.of(weights=[1 / 8] * 8, means=means, covariances=[[0.025, 0.025]] * 8)


@pytest.fixture
def tilted() -> GaussianMixture:
    """Three components with full covariances in 2-D."""
    return GaussianMixture.of(
        weights=torch.tensor([0.5, 0.3, 0.2]),
        means=[[0.0, 0.0], [2.0, -1.0], [-1.5, 1.0]],
        covariances=[[[1.0, 0.6], [0.6, 0.5]], [[0.2, -0.1], [-0.1, 0.4]], [[0.3, 0.0], [0.0, 0.1]]],
    )
