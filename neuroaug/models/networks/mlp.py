"""The papers' fully connected networks (TPAMI Tables 8 and 11)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from neuroaug.config import GeneratorConfig
from neuroaug.models.networks.heads import FactorHead, GaussianHead, Networks, TrunkAndHead
from neuroaug.models.networks.registry import register_network


class Perceptron(nn.Sequential):
    """Linear layers with a ReLU after each, on flattened input."""

    def __init__(self, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers)

    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Do nothing: the papers' networks are left as published."""


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

    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Do nothing: the papers' networks are left as published."""


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
        encoder=TrunkAndHead(Perceptron([n_voxels, *hidden]), GaussianHead(hidden[-1], latent_dim)),
        decoder=MlpDecoder(latent_dim, tuple(reversed(hidden)), shape),
        metric=TrunkAndHead(
            Perceptron([n_voxels, metric_hidden]), FactorHead(metric_hidden, latent_dim)
        ),
    )


@register_network(
    "mlp",
    learning_rate=1e-5,
    when_short="use network: conv3d, a machine with more memory, or a coarser resolution",
)
def mlp(config: GeneratorConfig, shape: Sequence[int]) -> Networks:
    """Fully connected, as published for ADNI (TPAMI Tables 11 and 12)."""
    return build_mlp(shape, config.n_latents)


@register_network(
    "mlp-toy",
    learning_rate=1e-3,
    when_short="use network: conv3d, a machine with more memory, or a coarser resolution",
)
def mlp_toy(config: GeneratorConfig, shape: Sequence[int]) -> Networks:
    """Fully connected with one hidden layer, as published for small images (TPAMI Tables 8, 9)."""
    return build_mlp(shape, config.n_latents, hidden=(400,))
