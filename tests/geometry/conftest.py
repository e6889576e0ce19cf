"""Random metrics of every size, seeded."""

import pytest
import torch

from neuroaug.geometry import LearnedMetric, PosteriorMetric


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20)


@pytest.fixture
def make_learned():
    def make(
        d,
        n=12,
        temperature=1.2,
        regularization=1e-2,
        dtype=torch.float64,
        seed=0,
        spread=1.0,
        shift=0.0,
    ):
        g = torch.Generator().manual_seed(seed)
        centroids = torch.randn(n, d, dtype=torch.float64, generator=g) * spread + shift
        low = torch.randn(n, d, d, dtype=torch.float64, generator=g).mul(0.3).tril(-1)
        diagonal = torch.rand(n, d, dtype=torch.float64, generator=g) + 0.3
        factors = low + torch.diag_embed(diagonal)
        return LearnedMetric(centroids.to(dtype), factors.to(dtype), temperature, regularization)

    return make


@pytest.fixture
def make_posterior():
    def make(d, n=12, temperature=1.2, regularization=1e-2, decay=0.0, dtype=torch.float64, seed=0):
        g = torch.Generator().manual_seed(seed)
        means = torch.randn(n, d, dtype=torch.float64, generator=g)
        variances = torch.rand(n, d, dtype=torch.float64, generator=g) + 0.1
        return PosteriorMetric(
            means.to(dtype), variances.to(dtype), temperature, regularization, decay
        )

    return make
