"""A 3D convolutional family of networks for any grid, sized by one number.

No layer sees more than one image at a time (no batch normalisation), so that an image's code does
not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuroaug.config import GeneratorConfig
from neuroaug.models.networks.heads import FactorHead, GaussianHead, Networks, TrunkAndHead
from neuroaug.models.networks.registry import register_network

LARGEST_COARSE_AXIS = 8
"""The convolutional networks halve the grid until no axis is longer than this."""

CLOSEST_TO_BOUND = 0.01
"""A decoder starts with no intensity closer to 0 or 1 than this: the sigmoid would be too flat to
learn from.
"""

SMALLEST_DEVIATION = 1e-3
"""Least standard deviation by which images are divided; images that are all equal stay finite."""

LOG_VARIANCE_START = -2.0
"""Start of the convolutional encoder's log-variance; costs the bound half a nat per dimension."""


def coarser_grids(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Halve a grid into those of the convolutional networks, finest first, rounding up.

    At least one halving; stops when no axis is longer than `LARGEST_COARSE_AXIS`.
    """
    grids = [tuple(shape)]
    while len(grids) == 1 or max(grids[-1]) > LARGEST_COARSE_AXIS:
        grids.append(tuple((n + 1) // 2 for n in grids[-1]))
    return grids


Triple = tuple[int, int, int]


def _where_long(grid: Sequence[int], value: int, otherwise: int) -> Triple:
    """One setting an axis: axes of a single voxel are left alone."""
    x, y, z = (value if n > 1 else otherwise for n in grid)
    return x, y, z


class Down(nn.Module):
    """Strided 3x3x3 convolution to the next coarser grid, then SiLU."""

    def __init__(self, grid: Sequence[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(
            n_in, n_out, _where_long(grid, 3, 1), _where_long(grid, 2, 1), _where_long(grid, 1, 0)
        )
        self.activation = nn.SiLU()
        # Torch's own start shrinks what it is given at every layer, and seven layers on all images
        # look alike.
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Features on the coarser grid."""
        return self.activation(self.convolution(x))


class Up(nn.Module):
    """Transposed 4x4x4 convolution of stride 2 to the next finer grid, cropped to it exactly.

    Its kernel is a multiple of its stride, so every output voxel sums the same number of inputs,
    and it starts as a trilinear interpolation of randomly mixed channels: no checkerboard to
    unlearn.
    """

    def __init__(self, finer: Sequence[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.finer = tuple(finer)
        kernel = _where_long(finer, 4, 1)
        self.convolution = nn.ConvTranspose3d(
            n_in, n_out, kernel, _where_long(finer, 2, 1), _where_long(finer, 1, 0)
        )
        self._interpolate(n_in, n_out, kernel)

    def _interpolate(self, n_in: int, n_out: int, kernel: Sequence[int]) -> None:
        tap = torch.tensor([0.25, 0.75, 0.75, 0.25])
        x, y, z = (tap if size > 1 else torch.ones(1) for size in kernel)
        stencil = torch.einsum("i,j,k->ijk", x, y, z)
        with torch.no_grad():
            mixing = torch.randn(n_in, n_out) / math.sqrt(n_in)
            self.convolution.weight.copy_(mixing[..., None, None, None] * stencil)
            nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Features on the finer grid."""
        x_size, y_size, z_size = self.finer
        return self.convolution(x)[..., :x_size, :y_size, :z_size]


def _same(grid: Sequence[int], n_in: int, n_out: int) -> nn.Conv3d:
    return nn.Conv3d(n_in, n_out, _where_long(grid, 3, 1), 1, _where_long(grid, 1, 0))


class ConvTrunk(nn.Module):
    """Images to flat features: strided convolutions down to a grid of at most 8 voxels an axis.

    Registered heads share most of their intensities. What the convolutions see is the difference
    from a mean image in units of its standard deviation (`centre_on`): otherwise the codes of all
    images start at one point, under the posterior's noise, and the decoder learns to do without
    them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, grids: Sequence[Sequence[int]], channels: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 1
        for grid, n_out in zip(grids[:-1], channels, strict=True):
            layers.append(Down(grid, n_in, n_out))
            n_in = n_out
        self.stages = nn.Sequential(*layers, nn.Flatten())
        self.n_features = channels[-1] * math.prod(grids[-1])
        self.register_buffer("mean", torch.zeros(1, 1, *grids[0]))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, n) of images (B, 1, X, Y, Z)."""
        return self.stages((x - self.mean) / self.deviation)

    @torch.no_grad()
    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """See differences from a mean image (X, Y, Z), in units of their standard deviation."""
        self.mean.copy_(mean_image.reshape(self.mean.shape))
        self.deviation.fill_(max(deviation, SMALLEST_DEVIATION))


class ConvDecoder(nn.Module):
    """Latents to logits on exactly the grid: convolutions, plus one bias a voxel.

    The biases, `template`, are what the last layer of the papers' decoder has too. `centre_on`
    starts them at a mean image, so that the convolutions only learn how images differ from it.
    """

    def __init__(
        self, latent_dim: int, grids: Sequence[Sequence[int]], channels: Sequence[int], last: int
    ) -> None:
        super().__init__()
        self.coarsest = (channels[-1], *grids[-1])
        self.stem = nn.Linear(latent_dim, math.prod(self.coarsest))
        stages: list[nn.Module] = []
        ups = list(zip(grids[-2:0:-1], channels[-1:0:-1], channels[-2::-1], strict=True))
        for grid, n_in, n_out in ups:
            stages += [nn.SiLU(), Up(grid, n_in, n_out), nn.SiLU(), _same(grid, n_out, n_out)]
        self.stages = nn.Sequential(*stages)
        self.last = nn.Sequential(
            nn.SiLU(), Up(grids[0], channels[0], last), nn.SiLU(), _same(grids[0], last, 1)
        )
        self.template = nn.Parameter(torch.zeros(1, 1, *grids[0]))

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, 1, X, Y, Z) of latents (B, d)."""
        coarse = self.stem(z).unflatten(1, self.coarsest)
        return self.template + self.last(
            self.stages(coarse.contiguous(memory_format=torch.channels_last_3d))
        )

    @torch.no_grad()
    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Start from a mean image (X, Y, Z) in [0, 1]."""
        clamped = mean_image.clamp(CLOSEST_TO_BOUND, 1 - CLOSEST_TO_BOUND)
        self.template.copy_(torch.logit(clamped).reshape(self.template.shape))


def build_conv3d(shape: Sequence[int], latent_dim: int, width: int = 16) -> Networks:
    """Build the 3D convolutional networks for any grid, sized by `width` alone.

    The parts, and why:

    - Encoder: strided 3x3x3 convolutions, `width` channels at half resolution, doubled at each
      level up to 8 `width`, until no axis is longer than 8. Nothing but the image itself is kept at
      full resolution, which is where the memory goes.
    - Decoder: a linear stem, then transposed 4x4x4 convolutions (overlapping evenly: no
      checkerboard), each with a 3x3x3 refinement, cropped to the grid of the level, so that odd
      sizes come out exactly. At full resolution only `width` / 4 channels remain, and one bias a
      voxel: registered heads share most of their anatomy, and training starts from their mean.
    - Metric network: the same trunk at a quarter of the width; it only has to tell the training
      images of one diagnosis apart, and it runs once per step.
    - Both trunks see an image's difference from the mean of the training images, and the posterior
      starts
      narrow (log-variance -2): codes are told apart from the first step, so that the decoder uses
      them.
    - SiLU throughout: the Hamiltonian flow integrates the gradient of log p(x|z), which a ReLU
      makes discontinuous.
    - No normalisation layer: with batches of 10 to 25 images batch statistics are noise, and the
      metric is recomputed one batch at a time in evaluation mode.

    Parameters
    ----------
    shape : sequence of int
        The grid; axes of 8 voxels or more, or of 1 (images in two dimensions).
    latent_dim : int
        d.
    width : int
        Channels of the first convolution.
    """
    grids = coarser_grids(shape)
    factors = [min(2**level, 8) for level in range(len(grids) - 1)]
    channels = [width * factor for factor in factors]
    light = [max(width // 4, 1) * factor for factor in factors]
    encoder, metric = ConvTrunk(grids, channels), ConvTrunk(grids, light)
    networks = (
        TrunkAndHead(encoder, GaussianHead(encoder.n_features, latent_dim, LOG_VARIANCE_START)),
        ConvDecoder(latent_dim, grids, channels, last=max(width // 4, 1)),
        TrunkAndHead(metric, FactorHead(metric.n_features, latent_dim)),
    )
    # Channels last: a training step on two cores takes half the time.
    return Networks(*(network.to(memory_format=torch.channels_last_3d) for network in networks))  # type: ignore[call-overload]


@register_network(
    "conv3d",
    learning_rate=1e-3,
    clips_gradients=True,
    channels_last=True,
    when_short="lower generator.width or use a coarser resolution",
)
def conv3d(config: GeneratorConfig, shape: Sequence[int]) -> Networks:
    """3D convolutions for any grid, sized by ``width``."""
    # The rate: with the leapfrog's default step of 1e-3 and long gradients shortened, 3e-3 was
    # still stable on 15 heads at 4 mm (120 steps); the default keeps a margin of three.
    return build_conv3d(shape, config.n_latents, config.width)
