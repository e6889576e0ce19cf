"""The networks of a generator: the papers' fully connected ones and a 3D convolutional family.

Every encoder maps images (B, 1, X, Y, Z) to a mean and a log-variance (B, d), every decoder maps
latents (B, d) to logits (B, 1, X, Y, Z), and every metric network maps images to the lower
triangular factors L (B, d, d) of METHOD 2. No layer sees more than one image at a time (no batch
normalisation), so that an image's code does not depend on its batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuroaug.config import GeneratorConfig
from neuroaug.models.likelihood import at_least_float32

LARGEST_COARSE_AXIS = 8
"""The convolutional networks halve the grid until no axis is longer than this."""

CLOSEST_TO_BOUND = 0.01
"""A decoder starts with no intensity closer to 0 or 1 than this: the sigmoid would be too flat to
learn from.
"""

SMALLEST_DEVIATION = 1e-3
"""Least standard deviation by which images are divided; images that are all equal stay finite."""

LOG_VARIANCE_START = -2.0
"""Start of the convolutional encoder's log-variance; costs the bound half a nat a dimension."""


class Networks(NamedTuple):
    """The three networks of an RHVAE; a plain VAE has no metric network."""

    encoder: nn.Module
    decoder: nn.Module
    metric: nn.Module | None


def lower_triangular(log_diagonal: Tensor, below: Tensor) -> Tensor:
    """Assemble L from its parts: a positive diagonal and the entries below it.

    Parameters
    ----------
    log_diagonal : Tensor, shape (..., d)
        Logarithm of the diagonal.
    below : Tensor, shape (..., d (d - 1) / 2)
        Entries below the diagonal, row by row.

    Returns
    -------
    Tensor, shape (..., d, d)
    """
    d = log_diagonal.shape[-1]
    rows, columns = torch.tril_indices(d, d, offset=-1, device=log_diagonal.device)
    factor = torch.diag_embed(log_diagonal.exp())
    flat = factor.flatten(-2)
    index = (rows * d + columns).expand(below.shape)
    return flat.scatter(-1, index, below).unflatten(-1, (d, d))


class GaussianHead(nn.Module):
    """Features to the mean and log-variance of q(z|x).

    Parameters
    ----------
    log_variance : float, optional
        Start of the log-variance; by default the layer's own random start around 0.
    """

    def __init__(self, n_features: int, latent_dim: int, log_variance: float | None = None) -> None:
        super().__init__()
        self.mean = nn.Linear(n_features, latent_dim)
        self.log_variance = nn.Linear(n_features, latent_dim)
        if log_variance is not None:
            nn.init.constant_(self.log_variance.bias, log_variance)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, d) of features (B, n)."""
        return self.mean(features), self.log_variance(features)


class FactorHead(nn.Module):
    """Features to the lower triangular factor of the metric (TPAMI Table 11, "diag." and "low.")."""

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.diagonal = nn.Linear(n_features, latent_dim)
        self.below = nn.Linear(n_features, latent_dim * (latent_dim - 1) // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Factors L (B, d, d) of features (B, n)."""
        # d = 1 has nothing below the diagonal; the layer is then empty.
        return lower_triangular(
            *map(at_least_float32, (self.diagonal(features), self.below(features)))
        )


class Perceptron(nn.Sequential):
    """Linear layers with a ReLU after each, on flattened input."""

    def __init__(self, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers)


class MlpDecoder(nn.Module):
    """Latents to logits through hidden layers of the given sizes."""

    def __init__(self, latent_dim: int, hidden: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.hidden = Perceptron([latent_dim, *hidden])
        self.logits = nn.Linear(hidden[-1], math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, 1, X, Y, Z) of latents (B, d)."""
        return self.logits(self.hidden(z)).unflatten(1, (1, *self.shape))


def build_mlp(
    shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int] = (500, 500, 400),
    metric_hidden: int = 400,
) -> Networks:
    """Build the papers' fully connected networks (TPAMI Table 11; Table 8 with ``hidden=(400,)``).

    Parameters
    ----------
    shape : sequence of int
        The grid, flattened to D values.
    latent_dim : int
        d.
    hidden : sequence of int
        Hidden sizes of the encoder; the decoder has them reversed.
    metric_hidden : int
        Hidden size of the metric network.
    """
    n_voxels = math.prod(shape)
    return Networks(
        encoder=nn.Sequential(
            Perceptron([n_voxels, *hidden]), GaussianHead(hidden[-1], latent_dim)
        ),
        decoder=MlpDecoder(latent_dim, tuple(reversed(hidden)), shape),
        metric=nn.Sequential(
            Perceptron([n_voxels, metric_hidden]), FactorHead(metric_hidden, latent_dim)
        ),
    )


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
    def centre_on(self, mean_image: Tensor) -> None:
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
      images of one diagnosis apart, and it runs once a step.
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
        nn.Sequential(encoder, GaussianHead(encoder.n_features, latent_dim, LOG_VARIANCE_START)),
        ConvDecoder(latent_dim, grids, channels, last=max(width // 4, 1)),
        nn.Sequential(metric, FactorHead(metric.n_features, latent_dim)),
    )
    # Channels last: a training step on two cores takes half the time.
    return Networks(*(network.to(memory_format=torch.channels_last_3d) for network in networks))  # type: ignore[call-overload]


def build_networks(config: GeneratorConfig, shape: Sequence[int]) -> Networks:
    """Build the networks that a configuration names; the metric network only for an RHVAE.

    Parameters
    ----------
    config : GeneratorConfig
        ``network``, ``model``, ``latent_dim`` and ``width`` count.
    shape : sequence of int
        The grid.
    """
    if config.network == "conv3d":
        networks = build_conv3d(shape, config.latent_dim, config.width)
    elif config.network == "mlp":
        networks = build_mlp(shape, config.latent_dim)
    else:
        networks = build_mlp(shape, config.latent_dim, hidden=(400,))
    return networks if config.model == "rhvae" else networks._replace(metric=None)


def n_parameters(networks: Networks) -> int:
    """Count the trained values in all networks."""
    return sum(
        p.numel() for network in networks if network is not None for p in network.parameters()
    )
