"""The released code's gradient beside the true one, and Riemannian distances along a graph."""

import numpy as np
import pytest
import torch

from neuroaug.geometry import LearnedMetric, geodesic
from neuroaug.geometry.mcmc import hmc
from neuroaug.published.experiments.clustering import geodesic_distances
from neuroaug.published.reference_gradient import with_reference_gradient


@pytest.fixture
def metric():
    generator = torch.Generator().manual_seed(0)
    centroids = 2 * torch.randn(30, 2, generator=generator)
    return LearnedMetric(
        centroids, torch.eye(2).expand(30, 2, 2).clone(), temperature=0.8, regularization=1e-3
    )


def test_graph_distances_are_those_of_short_geodesics(metric):
    points = metric.centroids
    found = geodesic_distances(metric, points)
    assert np.allclose(found, found.T)
    for j in (1, 7):
        true = float(
            geodesic.length(
                metric, geodesic.shortest_path(metric, points[0].double(), points[j].double())
            )
        )
        assert true * (1 - 1e-6) <= found[0, j] <= 1.3 * true


def test_reference_gradient_is_the_true_one_only_in_one_dimension():
    generator = torch.Generator().manual_seed(1)
    for d in (1, 3):
        factors = torch.tril(torch.randn(20, d, d, generator=generator)) + torch.eye(d)
        metric = LearnedMetric(
            torch.randn(20, d, generator=generator), factors, temperature=1.0, regularization=0.1
        )
        z = torch.randn(d, 6, generator=generator)
        true = metric.evaluator(6, torch.float32).gradient(z).clone()
        other = with_reference_gradient(metric).to("cpu", torch.float32).evaluator(6).gradient(z)
        assert torch.allclose(true, other, rtol=1e-3, atol=1e-4) == (d == 1)


def test_reference_gradient_is_the_released_codes_formula():
    generator = torch.Generator().manual_seed(3)
    factors = torch.tril(torch.randn(15, 4, 4, generator=generator)) + torch.eye(4)
    metric = LearnedMetric(
        torch.randn(15, 4, generator=generator), factors, temperature=1.3, regularization=0.05
    )
    z = torch.randn(6, 4, generator=generator)
    found = with_reference_gradient(metric).evaluator(6, torch.float64).gradient(z.double().T).T
    for point, force in zip(z.double(), found, strict=True):
        cometric, pulled = 0.05 * torch.eye(4).double(), torch.zeros(4).double()
        for centroid, factor in zip(metric.centroids.double(), factors.double(), strict=True):
            weight = torch.exp(-(centroid - point).square().sum() / 1.3**2)
            cometric += weight * factor @ factor.T
            pulled += weight * factor @ factor.T @ (centroid - point)
        torch.testing.assert_close(
            force, torch.linalg.inv(cometric) @ pulled / 1.3**2, rtol=1e-5, atol=1e-6
        )


def test_reference_gradient_is_accepted_less_often():
    generator = torch.Generator().manual_seed(2)
    factors = torch.tril(torch.randn(20, 4, 4, generator=generator)) + torch.eye(4)
    metric = LearnedMetric(
        torch.randn(20, 4, generator=generator), factors, temperature=1.0, regularization=1e-2
    )
    accepted = [
        float(
            hmc.sample(
                chosen,
                metric.centroids,
                n_steps=20,
                n_leapfrog=10,
                step_size=0.1,
                generator=torch.Generator().manual_seed(0),
                radius=metric.radius,
            )[1].acceptance_rate.mean()
        )
        for chosen in (metric, with_reference_gradient(metric))
    ]
    assert accepted[0] > accepted[1] + 0.1
