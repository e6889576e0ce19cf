"""The classifiers: the papers' two baselines, networks found by a search, and MONAI's by name.

Two outputs (negative, positive class) and one input channel, for volumes of any grid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from neuroaug.config import CLASSIFIERS, ClassifierSpec
from neuroaug.errors import InputError

CHANNELS = (8, 16, 32, 64, 128)
HIDDEN = (1300, 50)  # network A1, at 1 mm
FEATURES_1MM = 32256  # 128 channels of 6x7x6, what A1's first linear layer reads
MOST_CHANNELS = 512  # of a searched network
N_CLASSES = 2

_DENSENET = re.compile(r"densenet(121|169|201|264)")
_RESNET = re.compile(r"resnet(10|18|34|50|101|152|200)")


class PaddedMaxPool3d(nn.Module):
    """Max pooling by two that keeps odd voxels: a zero plane is added in front of an odd axis.

    This is the padded pooling of ClinicaDL 1.x, which the papers' networks have.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, X, Y, Z) -> (B, C, ceil(X / 2), ceil(Y / 2), ceil(Z / 2))."""
        if any(n % 2 for n in x.shape[2:]):
            padding = [p for n in reversed(x.shape[2:]) for p in (n % 2, 0)]
            x = F.pad(x, padding)
        return F.max_pool3d(x, 2)


def pooled_shape(shape: Sequence[int], n_blocks: int) -> tuple[int, ...]:
    """Grid left of `shape` after `n_blocks` padded poolings."""
    for _ in range(n_blocks):
        shape = tuple((n + 1) // 2 for n in shape)
    return tuple(shape)


def hidden_sizes(n_features: int) -> tuple[int, int]:
    """Sizes of the baseline's two hidden layers: A1's, scaled with the number of features.

    32256 features (1 mm) give 1300 and 50, 4608 (2 mm; network A2) 186 and 7, 1024 (4 mm; not in
    the papers) 41 and 2. Never fewer than two units.
    """
    ratio = n_features / FEATURES_1MM
    return max(2, round(HIDDEN[0] * ratio)), max(2, round(HIDDEN[1] * ratio))


def _convolutions(channels: Sequence[int], per_block: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    width = 1
    for n in channels:
        for _ in range(per_block):
            layers += [nn.Conv3d(width, n, 3, padding=1), nn.BatchNorm3d(n), nn.LeakyReLU()]
            width = n
        layers.append(PaddedMaxPool3d())
    return layers


def _head(n_features: int, hidden: Sequence[int], dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(dropout)]
    width = n_features
    for n in hidden:
        layers += [nn.Linear(width, n), nn.LeakyReLU()]
        width = n
    return [*layers, nn.Linear(width, N_CLASSES)]


def baseline(shape: Sequence[int], dropout: float = 0.5) -> nn.Sequential:
    """Networks A1 (1 mm) and A2 (2 mm): five blocks, dropout, three linear layers (METHOD 6).

    Parameters
    ----------
    shape : (X, Y, Z)
        Grid of the images.
    dropout : float
        Rate before the first linear layer.
    """
    n_features = CHANNELS[-1] * _volume(pooled_shape(shape, len(CHANNELS)))
    return nn.Sequential(
        *_convolutions(CHANNELS, 1), *_head(n_features, hidden_sizes(n_features), dropout)
    )


def searched(shape: Sequence[int], spec: ClassifierSpec) -> nn.Sequential:
    """A network of the search space (see `neuroaug.evaluation.search`).

    Blocks double the number of filters, up to 512; hidden linear layers shrink geometrically from
    the number of features to the two outputs.
    """
    channels = [min(spec.first_filters * 2**block, MOST_CHANNELS) for block in range(spec.n_blocks)]
    grid = pooled_shape(shape, spec.n_blocks)
    n_features = channels[-1] * _volume(grid)
    ratio = (N_CLASSES / n_features) ** (1 / spec.n_fully_connected)
    hidden = [
        max(N_CLASSES, round(n_features * ratio**layer))
        for layer in range(1, spec.n_fully_connected)
    ]
    return nn.Sequential(
        *_convolutions(channels, spec.convolutions_per_block),
        *_head(n_features, hidden, spec.dropout),
    )


def _volume(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _monai(name: str) -> nn.Module | None:
    densenet, resnet = _DENSENET.fullmatch(name), _RESNET.fullmatch(name)
    if not densenet and not resnet:
        return None
    from monai.networks import nets

    if densenet:
        return getattr(nets, f"DenseNet{densenet[1]}")(
            spatial_dims=3, in_channels=1, out_channels=N_CLASSES
        )
    return getattr(nets, f"resnet{resnet[1]}")(  # type: ignore[index]
        spatial_dims=3, n_input_channels=1, num_classes=N_CLASSES, pretrained=False
    )


def build(name: str, shape: Sequence[int], spec: ClassifierSpec | None = None) -> nn.Module:
    """A classifier by name, for images of one grid.

    Parameters
    ----------
    name : str
        ``baseline``; ``optimised`` (needs `spec`); or a network of MONAI: ``densenet121``, ``169``,
        ``201``, ``264``, ``resnet10``, ``18``, ``34``, ``50``, ``101``, ``152``, ``200``.
    shape : (X, Y, Z)
        Grid of the images.
    spec : ClassifierSpec, optional
        What the search found; for ``optimised`` only.

    Returns
    -------
    nn.Module
        Maps (B, 1, X, Y, Z) to (B, 2) logits, negative class first.

    Raises
    ------
    InputError
        If the name is unknown, or the specification missing.
    """
    if name == "baseline":
        return baseline(shape)
    if name == "optimised":
        if spec is None:
            raise InputError("network 'optimised': no search result; run 'neuroaug search' first")
        return searched(shape, spec)
    network = _monai(name.lower())
    if network is None:
        raise InputError(f"network '{name}': unknown; choose one of {', '.join(CLASSIFIERS)}")
    return network


def network_record(network: nn.Module) -> dict[str, Any]:
    """What a run's record says of its network."""
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return {
        "class": type(network).__name__,
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "linear_layers": [[m.in_features, m.out_features] for m in linear],
    }
