"""The papers' networks to the parameter, and the others by name."""

import pytest
import torch
from torch import nn

from neuroaug.config import ClassifierSpec
from neuroaug.errors import InputError
from neuroaug.evaluation import classifiers
from neuroaug.imaging.grid import GRIDS

# (fan in + bias) of each 3x3x3 convolution, and two parameters a channel of batch normalisation.
CONVOLUTIONS = sum(
    n * (27 * m + 1) + 2 * n for m, n in [(1, 8), (8, 16), (16, 32), (32, 64), (64, 128)]
)


def linear_sizes(network):
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(
    ("resolution", "sizes"),
    [
        ("1mm", [(32256, 1300), (1300, 50), (50, 2)]),
        ("2mm", [(4608, 186), (186, 7), (7, 2)]),
        ("4mm", [(1024, 41), (41, 2), (2, 2)]),
    ],
)
def test_baseline_has_the_published_layers(resolution, sizes):
    with torch.device("meta"):
        network = classifiers.baseline(GRIDS[resolution].shape)
    assert linear_sizes(network) == sizes
    expected = CONVOLUTIONS + sum(m * n + n for m, n in sizes)
    assert sum(p.numel() for p in network.parameters()) == expected
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_baseline_blocks_are_convolution_normalisation_activation_pooling():
    with torch.device("meta"):
        network = classifiers.baseline((16, 20, 18))
    kinds = [type(m) for m in list(network)[:4]]
    assert kinds == [nn.Conv3d, nn.BatchNorm3d, nn.LeakyReLU, classifiers.PaddedMaxPool3d]
    filters = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert filters == [8, 16, 32, 64, 128]
    assert {
        (m.kernel_size, m.stride, m.padding) for m in network.modules() if isinstance(m, nn.Conv3d)
    } == {((3, 3, 3), (1, 1, 1), (1, 1, 1))}


def test_padded_pooling_keeps_the_last_voxel_and_pads_zeros_in_front():
    x = -torch.arange(1.0, 6.0).reshape(1, 1, 5, 1, 1).repeat(1, 1, 1, 2, 2)
    pooled = classifiers.PaddedMaxPool3d()(x)
    assert pooled.shape == (1, 1, 3, 1, 1)
    # Windows (0, -1), (-2, -3), (-4, -5): the zero plane in front wins the first.
    assert pooled.flatten().tolist() == [0.0, -2.0, -4.0]


def test_pooled_shapes_are_those_of_the_features():
    assert classifiers.pooled_shape((169, 208, 179), 5) == (6, 7, 6)
    assert classifiers.pooled_shape((84, 104, 89), 5) == (3, 4, 3)


@pytest.mark.parametrize("name", ["baseline", "resnet10"])
def test_networks_give_two_logits_and_learn(name):
    torch.manual_seed(0)
    network = classifiers.build(name, (16, 20, 18))
    logits = network(torch.rand(3, 1, 16, 20, 18))
    assert logits.shape == (3, 2)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_densenet_by_name_is_monai_s():
    with torch.device("meta"):
        network = classifiers.build("DenseNet121", (42, 52, 44))
    assert type(network).__name__ == "DenseNet121"
    assert linear_sizes(network)[-1][1] == 2


def test_searched_network_follows_its_specification():
    spec = ClassifierSpec(
        n_blocks=3, first_filters=4, convolutions_per_block=2, n_fully_connected=2, dropout=0.25
    )
    network = classifiers.build("optimised", (16, 20, 18), spec)
    convolutions = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert convolutions == [4, 4, 8, 8, 16, 16]
    sizes = linear_sizes(network)
    assert len(sizes) == 2
    assert sizes[0][0] == 16 * 2 * 3 * 3
    assert sizes[-1][1] == 2
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.25]
    assert network(torch.rand(2, 1, 16, 20, 18)).shape == (2, 2)


def test_unknown_network_and_missing_search_result_are_said_in_one_line():
    with pytest.raises(InputError, match="network 'alexnet': unknown; choose one of baseline"):
        classifiers.build("alexnet", (16, 20, 18))
    with pytest.raises(InputError, match="run 'neuroaug search' first"):
        classifiers.build("optimised", (16, 20, 18))
