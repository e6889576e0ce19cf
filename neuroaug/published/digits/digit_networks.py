"""Networks that classify images with a flat axis: a small CNN, and the papers' DenseNet.

The DenseNet has growth 10, depth 20 and reduction .5 (TPAMI App. D.2.3).
"""

from __future__ import annotations

import torch
from torch import nn

from neuroaug.errors import InputError

GROWTH, DEPTH, REDUCTION = 10, 20, 0.5
SMALL_CHANNELS = (16, 32, 64)
SMALL_HIDDEN = 64
DROPOUT = 0.25


class DropFlatAxis(nn.Module):
    """(B, C, X, Y, 1) -> (B, C, X, Y)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images without their flat axis."""
        return x.squeeze(-1).contiguous()


class SmallCnn(nn.Module):
    """Three strided convolutions with batch normalisation, then a hidden layer.

    A training step takes milliseconds on one core.
    """

    def __init__(self, side: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [DropFlatAxis()]
        width = 1
        for kernel, channels in zip((5, 3, 3), SMALL_CHANNELS, strict=True):
            layers += [
                nn.Conv2d(width, channels, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            width, side = channels, (side + 1) // 2
        self.features = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(width * side * side, SMALL_HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
        )
        self.head = nn.Linear(SMALL_HIDDEN, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of images (B, 1, X, Y, 1)."""
        return self.head(self.features(x))


class _Bottleneck(nn.Module):
    """Bottleneck of a DenseNet: what it adds is put beside what it was given."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        between = 4 * GROWTH
        self.layers = nn.Sequential(
            nn.BatchNorm2d(n_in),
            nn.ReLU(),
            nn.Conv2d(n_in, between, 1, bias=False),
            nn.BatchNorm2d(between),
            nn.ReLU(),
            nn.Conv2d(between, GROWTH, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give x with GROWTH channels more, (B, C + GROWTH, X, Y)."""
        return torch.cat([x, self.layers(x)], 1)


class DenseNet(nn.Module):
    """DenseNet-BC with three dense blocks (TPAMI App. D.2.3; Huang et al. 2017)."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        per_block = (DEPTH - 4) // 3 // 2
        width = 2 * GROWTH
        layers: list[nn.Module] = [DropFlatAxis(), nn.Conv2d(1, width, 3, padding=1, bias=False)]
        for block in range(3):
            for _ in range(per_block):
                layers.append(_Bottleneck(width))
                width += GROWTH
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            if block < 2:
                reduced = int(width * REDUCTION)
                layers += [nn.Conv2d(width, reduced, 1, bias=False), nn.AvgPool2d(2)]
                width = reduced
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of images (B, 1, X, Y, 1)."""
        return self.head(self.features(x))


def build(name: str, side: int, n_classes: int) -> SmallCnn | DenseNet:
    """Make a classifier by name: ``small`` or ``densenet``.

    Raises
    ------
    InputError
        If the name is neither.
    """
    if name == "small":
        return SmallCnn(side, n_classes)
    if name == "densenet":
        return DenseNet(n_classes)
    raise InputError(f"classifier '{name}': unknown; choose small or densenet")
