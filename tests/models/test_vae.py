import pytest
import torch

from neuroaug.config import GeneratorConfig
from neuroaug.geometry.metrics.posterior import PosteriorMetric
from neuroaug.models import VAE
from neuroaug.models.vae import medoids


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE(GeneratorConfig(model="vae", latent_dim=3, width=4), (9, 13, 11))


def test_bound_averages_to_minus_the_loss(model, images, generator):
    """The single-sample bound and the loss (divergence in closed form) have one expectation."""
    draws = torch.stack([model.elbo(images, generator=generator).mean() for _ in range(100)])
    losses = torch.stack(
        [model.loss(images, generator=generator).loss.detach() for _ in range(100)]
    )
    error = draws.std() / 10 + losses.std() / 10
    assert abs(draws.mean() + losses.mean()) < 4 * error


def test_every_weight_gets_a_finite_gradient(model, images):
    model.loss(images).loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_vae_takes_its_kind_from_its_class(model):
    assert model.config.model == "vae"
    assert model.metric_network is None


def test_metric_is_that_of_the_posteriors(model, images):
    model.update_metric(images.split(2))
    metric = model.metric
    assert isinstance(metric, PosteriorMetric)
    mean, log_variance = model.encode(images)
    torch.testing.assert_close(metric.means, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(metric.variances, log_variance.exp(), rtol=1e-4, atol=1e-5)
    distances = torch.cdist(mean, mean) + torch.eye(7) * 1e9
    assert metric.temperature == pytest.approx(float(distances.amin(1).amax()), rel=1e-3)
    assert metric.log_density(mean).mean() > metric.log_density(100 * torch.ones(1, 3)).mean()
    assert not model.metric_contrast().collapsed


def test_two_dimensional_images_work():
    model = VAE(GeneratorConfig(network="mlp-toy", latent_dim=2), (8, 9, 1))
    assert model.reconstruct(torch.rand(3, 1, 8, 9, 1)).shape == (3, 1, 8, 9, 1)


def test_medoids_are_points_one_in_each_cluster(generator):
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = (centers[:, None] + torch.randn(4, 25, 2, generator=generator)).flatten(0, 1)
    chosen = medoids(points, 4)
    assert sorted((chosen // 25).tolist()) == [0, 1, 2, 3]
