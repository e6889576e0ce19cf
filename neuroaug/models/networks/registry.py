"""Networks by name: how each is built, and what its training should know.

Every encoder maps images (B, 1, X, Y, Z) to a mean and a log-variance (B, d), every decoder maps
latents (B, d) to logits (B, 1, X, Y, Z), and every metric network maps images to the lower
triangular factors L (B, d, d) of METHOD 2. All three have ``centre_on(mean_image, deviation)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuroaug.errors import InputError
from neuroaug.models.networks.components import on_components
from neuroaug.registries import NETWORKS

if TYPE_CHECKING:
    from neuroaug.config import GeneratorConfig
    from neuroaug.models.networks.heads import Networks

__all__ = ["NETWORKS", "NetworkFamily", "build_networks", "register_network"]

Builder = Callable[["GeneratorConfig", Sequence[int]], "Networks"]


@dataclass(frozen=True)
class NetworkFamily:
    """One entry of the registry.

    Attributes
    ----------
    build : callable
        From the configuration and the grid (X, Y, Z) to untrained networks, the metric's included.
    learning_rate : float
        Adam's, where the configuration leaves it open.
    clips_gradients : bool
        Whether long gradients are shortened in training.
    channels_last : bool
        Memory layout of the images that the networks are given.
    when_short : str
        What to do where they do not fit into memory.
    twice_differentiable : bool
        Whether the decoder has a second derivative.
    paints : bool
        Whether its logits are a sum, which may begin with that of principal components.
    """

    build: Builder
    learning_rate: float
    clips_gradients: bool
    channels_last: bool
    when_short: str
    twice_differentiable: bool = True
    paints: bool = True


def register_network(
    name: str,
    *,
    learning_rate: float,
    clips_gradients: bool = False,
    channels_last: bool = False,
    when_short: str,
    twice_differentiable: bool = True,
    paints: bool = True,
) -> Callable[[Builder], Builder]:
    """Register a builder of networks under `name`; see `NetworkFamily`."""

    def register(build: Builder) -> Builder:
        family = NetworkFamily(
            build,
            learning_rate,
            clips_gradients,
            channels_last,
            when_short,
            twice_differentiable,
            paints,
        )
        NETWORKS.add(name, family)
        return build

    return register


def build_networks(config: GeneratorConfig, shape: Sequence[int], *, metric: bool) -> Networks:
    """Build the networks that a configuration names.

    Parameters
    ----------
    config : GeneratorConfig
        ``network``, ``latent_dim``, ``width`` and ``start`` count.
    shape : sequence of int
        The grid.
    metric : bool
        Keep the metric network, which only a Riemannian family has.

    Raises
    ------
    InputError
        If the network cannot do what a setting asks for.
    """
    family: NetworkFamily = NETWORKS.get(config.network)
    if getattr(config, "second_order", False) and not family.twice_differentiable:
        raise InputError(
            f"generator.second_order: network {config.network} has no second derivative; set it "
            "to false, or choose another network"
        )
    if config.start == "components" and not family.paints:
        raise InputError(
            f"generator.start: network {config.network} does not begin with components; set it to "
            "random, or choose another network"
        )
    networks: Networks = family.build(config, shape)
    if config.start == "components":
        networks = on_components(networks, config.n_latents, tuple(shape))
    return networks if metric else networks._replace(metric=None)
