"""From features to what a model needs: a Gaussian code, a factor of the metric."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from neuroaug.models.likelihood import at_least_float32


class Networks(NamedTuple):
    """The three networks of an RHVAE; a plain VAE has no metric network."""

    encoder: nn.Module
    decoder: nn.Module
    metric: nn.Module | None


def in_full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Without autocast, which the meta device, where memory is estimated, does not have at all."""
    kind = tensor.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


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
    """Features to the lower triangular factor of the metric (TPAMI Table 11: "diag.", "low.")."""

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


class StartsFromMean(Protocol):
    """What training asks of every network before its first step."""

    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Start from the training images' mean (X, Y, Z) and standard deviation, or do nothing."""


class TrunkAndHead(nn.Sequential):
    """Images to features, features to an answer."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__(trunk, head)

    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Start from the training images' mean (X, Y, Z) and standard deviation."""
        cast("StartsFromMean", self[0]).centre_on(mean_image, deviation)


def n_parameters(networks: Networks) -> int:
    """Count the trained values in all networks."""
    return sum(
        p.numel() for network in networks if network is not None for p in network.parameters()
    )
