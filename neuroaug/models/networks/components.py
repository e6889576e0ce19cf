"""Networks that start from principal components: what is linear need not be learned.

The encoder's mean is the scores of an image on the components of the training images, each divided
by its standard deviation, plus a network; the decoder's logits are those of mean + W z, plus a
network. Both networks are behind a gate that starts at 0: before the first step the model is that
of the components, and what it learns is what they miss.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroaug.models.likelihood import at_least_float32
from neuroaug.models.networks.heads import Networks, StartsFromMean, in_full_precision
from neuroaug.models.principal_components import Components

SHARPNESS = 100.0
"""Of the bends at 0 and 1 of intensities: the gradient of log p(x|z) stays continuous."""

LEAST = 1e-3
"""Distance from 0 and 1 below which logits no longer follow the components."""

GATE_RATE = 10.0
"""Times that gates move faster than Adam moves a parameter: they begin at 0."""


class Basis(nn.Module):
    """Mean and principal directions of the training images; found once, not trained."""

    mean: Tensor
    directions: Tensor
    deviations: Tensor

    def __init__(self, latent_dim: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = shape
        n_voxels = int(torch.Size(shape).numel())
        self.register_buffer("mean", torch.zeros(n_voxels))
        self.register_buffer("directions", torch.zeros(n_voxels, latent_dim))
        self.register_buffer("deviations", torch.ones(latent_dim))

    @torch.no_grad()
    def start_from(self, mean: Tensor, found: Components) -> None:
        """Take the components of the training images; fewer than d leave the last codes without."""
        n = found.directions.shape[1]
        self.mean.copy_(mean.flatten())
        self.directions[:, :n].copy_(found.directions)
        deviations = found.variances.sqrt().to(self.deviations)
        self.deviations[:n].copy_(torch.where(deviations > 0, deviations, 1.0))

    def codes(self, x: Tensor) -> Tensor:
        """Scores (B, d) of images (B, 1, X, Y, Z), of variance 1 over the training images."""
        with in_full_precision(x):
            return (x.float().flatten(1) - self.mean) @ self.directions / self.deviations

    def images(self, z: Tensor) -> Tensor:
        """Mean + W z, (B, 1, X, Y, Z), of codes (B, d)."""
        with in_full_precision(z):
            scores = at_least_float32(z) * self.deviations
            flat = self.mean + scores @ self.directions.T
        return flat.unflatten(1, (1, *self.grid))


def _within(intensity: Tensor) -> Tensor:
    """Intensities bent smoothly into (0, 1)."""
    low = F.softplus(intensity, beta=SHARPNESS)
    high = F.softplus(intensity - 1, beta=SHARPNESS)
    return (low - high).clamp(LEAST, 1 - LEAST)


class ComponentDecoder(nn.Module):
    """Latents to logits: those of mean + W z, plus a gated network."""

    def __init__(self, network: nn.Module, basis: Basis) -> None:
        super().__init__()
        self.network, self.basis = network, basis
        self.gate = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(1, 1, *basis.grid))

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, 1, X, Y, Z) of latents (B, d)."""
        linear = torch.logit(_within(self.basis.images(z)))
        return linear + self.bias + GATE_RATE * self.gate * self.network(z)

    @torch.no_grad()
    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Make z = 0 the mean image (X, Y, Z); the network has nothing to start from."""
        mean = mean_image.reshape(self.bias.shape)
        self.bias.copy_(torch.logit(mean.clamp(LEAST, 1 - LEAST)) - torch.logit(_within(mean)))


class ComponentEncoder(nn.Module):
    """Images to scores on the components plus a gated network, and the network's log-variance."""

    def __init__(self, network: nn.Module, basis: Basis) -> None:
        super().__init__()
        self.network = network
        self._basis = (basis,)  # in a tuple: the decoder stores it
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, d) of images (B, 1, X, Y, Z)."""
        (basis,) = self._basis
        mean, log_variance = self.network(x)
        return basis.codes(x) + GATE_RATE * self.gate * mean, log_variance

    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Start the network from the training images' mean and standard deviation."""
        cast(StartsFromMean, self.network).centre_on(mean_image, deviation)


def on_components(networks: Networks, latent_dim: int, shape: tuple[int, ...]) -> Networks:
    """Put encoder and decoder on components; the metric's network stays."""
    basis = Basis(latent_dim, shape)
    return networks._replace(
        encoder=ComponentEncoder(networks.encoder, basis),
        decoder=ComponentDecoder(networks.decoder, basis),
    )
