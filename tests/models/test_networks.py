import math

import pytest
import torch

from neuroaug.config import GeneratorConfig
from neuroaug.errors import ResourceError
from neuroaug.models import RHVAE
from neuroaug.models.autoencoder import TrainingStart
from neuroaug.models.networks.conv3d import build_conv3d, coarser_grids
from neuroaug.models.networks.heads import lower_triangular, n_parameters
from neuroaug.models.networks.registry import build_networks

ADNI_2MM = (84, 104, 89)


def count(config, shape):
    with torch.device("meta"):
        return n_parameters(build_networks(config, shape, metric=True))


def test_table_11_has_the_published_number_of_parameters():
    assert math.prod(ADNI_2MM) == 777_504
    assert count(GeneratorConfig(network="mlp", latent_dim=10), ADNI_2MM) == 1_090_220_379


def test_table_8_layer_by_layer():
    d, n = 2, 28 * 28
    encoder = n * 400 + 400 + 2 * (400 * d + d)
    decoder = d * 400 + 400 + 400 * n + n
    metric = n * 400 + 400 + (400 * d + d) + (400 + 1)
    assert (
        count(GeneratorConfig(network="mlp-toy", latent_dim=d), (28, 28, 1))
        == encoder + decoder + metric
    )


def test_a_plain_vae_has_no_metric_network():
    assert (
        build_networks(
            GeneratorConfig(model="vae", network="mlp-toy"), (8, 9, 10), metric=False
        ).metric
        is None
    )


@pytest.mark.parametrize("shape", [(8, 9, 10), (15, 17, 8), (21, 26, 23), (28, 28, 1), (13, 40, 9)])
def test_conv3d_gives_exactly_the_grid(shape):
    networks = build_conv3d(shape, latent_dim=3, width=4)
    x = torch.rand(2, 1, *shape)
    mean, log_variance = networks.encoder(x)
    assert mean.shape == log_variance.shape == (2, 3)
    assert networks.decoder(mean).shape == x.shape
    assert networks.metric(x).shape == (2, 3, 3)


@pytest.mark.parametrize("shape", [(169, 208, 179), ADNI_2MM, (42, 52, 44)])
def test_conv3d_gives_exactly_the_real_grids(shape):
    with torch.device("meta"):
        networks = build_conv3d(shape, latent_dim=10)
        x = torch.empty(1, 1, *shape)
        assert networks.decoder(networks.encoder(x)[0]).shape == x.shape
        assert networks.metric(x).shape == (1, 10, 10)


def test_grids_halve_rounding_up_until_no_axis_is_longer_than_8():
    assert coarser_grids((169, 208, 179))[-1] == (6, 7, 6)
    assert coarser_grids((28, 28, 1)) == [(28, 28, 1), (14, 14, 1), (7, 7, 1)]


def test_width_alone_sizes_the_networks():
    few, many = (n_parameters(build_conv3d((16, 18, 20), 3, width)) for width in (4, 8))
    assert many > 2 * few


def test_an_image_is_coded_alike_alone_and_in_a_batch(images):
    networks = build_conv3d((9, 13, 11), latent_dim=3, width=4)
    alone = torch.cat([networks.encoder(x[None])[0] for x in images])
    torch.testing.assert_close(networks.encoder(images)[0], alone, rtol=1e-4, atol=1e-6)


def test_a_centred_decoder_starts_near_the_mean_image(generator):
    torch.manual_seed(0)
    model = RHVAE(GeneratorConfig(latent_dim=3, width=4), (9, 13, 11))
    mean = torch.rand(9, 13, 11, generator=generator)
    model.start_from(TrainingStart(mean, 0.2, None, 0, None))
    with torch.no_grad():
        start = model.decode(torch.randn(3, 3, generator=generator))
    assert (start - mean).abs().mean() < 0.05


def test_lower_triangular_has_the_exponential_on_its_diagonal():
    factor = lower_triangular(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[4.0, 5.0, 6.0]]))
    expected = torch.tensor([[1.0, 0, 0], [4, math.e, 0], [5, 6, math.e**2]])
    torch.testing.assert_close(factor[0], expected)


def test_one_latent_dimension_works():
    networks = build_networks(
        GeneratorConfig(network="mlp-toy", latent_dim=1), (4, 4, 1), metric=True
    )
    assert networks.metric(torch.rand(2, 1, 4, 4, 1)).shape == (2, 1, 1)


@pytest.mark.parametrize("d", [10, 200_000])
def test_networks_too_large_for_the_machine_are_refused_before_they_are_made(monkeypatch, d):
    monkeypatch.setattr("neuroaug.models.autoencoder.available_memory", lambda: 2 * 10**9)
    config = GeneratorConfig(network="mlp", latent_dim=d)
    with pytest.raises(
        ResourceError, match=r"parameters: .* to train it with Adam; 2.0 GB of memory are free"
    ):
        RHVAE(config, ADNI_2MM)
