"""Encoder and decoder of a generative model: images to codes and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from neuroaug.config import FamilySettings, GeneratorConfig
from neuroaug.errors import InputError, ResourceError
from neuroaug.models.likelihood import Bernoulli, Gaussian, at_least_float32
from neuroaug.models.networks.components import ComponentDecoder
from neuroaug.models.networks.heads import Networks, StartsFromMean, n_parameters
from neuroaug.models.networks.registry import build_networks
from neuroaug.models.principal_components import Reader, principal_components
from neuroaug.system.files import human_bytes
from neuroaug.system.memory import available_memory

ENCODED_AT_ONCE = 8

DECODED_VOXELS = 4_000_000
"""About as many voxels are decoded at a time when images are drawn."""


@dataclass(frozen=True)
class TrainingStart:
    """What a model may know of its training images before the first step.

    Attributes
    ----------
    mean : Tensor, shape (X, Y, Z)
        Mean image.
    deviation : float
        Standard deviation of the images around it, over all voxels.
    images : callable
        From a number n to n training images (n, 1, X, Y, Z), spread evenly over their order.
    n_images : int
        How many training images there are.
    read : callable
        From the first and one past the last of them to these images, (n, 1, X, Y, Z).
    """

    mean: Tensor
    deviation: float
    images: Callable[[int], Tensor]
    n_images: int
    read: Reader


def require_memory(model: Autoencoder) -> None:
    """Refuse networks whose weights alone do not fit into memory, before anything is allocated.

    Raises
    ------
    ResourceError
        With the estimate.
    """
    config, shape = model.config, model.shape
    with torch.device("meta"):
        n = n_parameters(model.networks(config, shape))
    available = available_memory()
    if 4 * n > available:
        raise ResourceError(
            f"network {config.network} on a grid of {'x'.join(map(str, shape))} has {n:,} "
            f"parameters: {human_bytes(4 * n)}, and {human_bytes(16 * n)} to train it with Adam; "
            f"{human_bytes(available)} of memory are free; use network: conv3d, a lower "
            "latent_dim, or a machine with more memory"
        )


class Autoencoder(nn.Module):
    """Networks of a model of one diagnosis, with their settings, grid and label.

    Parameters
    ----------
    config : GeneratorConfig
        Networks and settings; completed to the family's own settings.
    shape : tuple of int
        The grid (X, Y, Z); Z = 1 for images in two dimensions.
    label : str, optional
        The diagnosis learned.
    grid : str, optional
        Name of the resolution, e.g. ``2mm``.
    networks : Networks, optional
        To be used instead of those that `config` names; such a model cannot be loaded by name.
    link : {"sigmoid", "identity"}
        From a Gaussian decoder's output to the mean image.
    """

    name: ClassVar[str]
    """As users type it; set by the registry, like `Settings`."""
    Settings: ClassVar[type[FamilySettings]]
    learns_metric: ClassVar[bool] = False
    """Whether the family has a metric network."""

    @classmethod
    def networks(cls, config: GeneratorConfig, shape: tuple[int, ...]) -> Networks:
        """Untrained networks: those that the configuration names, unless the family has its own."""
        return build_networks(config, shape, metric=cls.learns_metric)

    def __init__(
        self,
        config: GeneratorConfig,
        shape: tuple[int, ...],
        label: str | None = None,
        grid: str | None = None,
        *,
        networks: Networks | None = None,
        link: Literal["sigmoid", "identity"] = "sigmoid",
    ) -> None:
        super().__init__()
        self.config = self.Settings.model_validate({**config.model_dump(), "model": self.name})
        self.shape = tuple(int(n) for n in shape)
        self.label = label
        self.grid = grid
        self.latent_dim = config.n_latents
        self.likelihood = Bernoulli() if config.likelihood == "bernoulli" else Gaussian(link=link)
        if networks is None:
            require_memory(self)
            networks = self.networks(self.config, self.shape)
        encoder, decoder, metric_network = networks
        self.encoder = encoder
        self.decoder = decoder
        self.metric_network = metric_network

    @classmethod
    def from_networks(
        cls,
        networks: Networks,
        config: GeneratorConfig,
        shape: tuple[int, ...],
        *,
        link: Literal["sigmoid", "identity"] = "sigmoid",
    ) -> Self:
        """Build a model around given networks, for study and tests."""
        return cls(config, shape, networks=networks, link=link)

    # -- coding -----------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def check_images(self, x: Tensor) -> None:
        """Refuse images that are not of this model's grid.

        Raises
        ------
        InputError
            If `x` is not (B, 1, X, Y, Z) with this model's X, Y, Z.
        """
        if tuple(x.shape[1:]) != (1, *self.shape):
            expected = "x".join(map(str, self.shape))
            raise InputError(
                f"images of shape {tuple(x.shape)}: this model is of another grid, "
                f"expected (B, 1, {expected}); "
                "preprocess them to its resolution"
            )

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x).

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].

        Returns
        -------
        mean, log_variance : Tensor, shape (B, d)

        Raises
        ------
        InputError
            If the images are of another grid.
        """
        self.check_images(x)
        mean, log_variance = map(at_least_float32, self.encoder(x.to(self.device)))
        return mean, log_variance

    def mean_codes(self, read: Reader, n_images: int) -> Tensor:
        """Mean codes of images 0..n-1, (N, d), float64, on the CPU."""
        starts = range(0, n_images, ENCODED_AT_ONCE)
        parts = [self.encode(read(i, min(i + ENCODED_AT_ONCE, n_images)))[0] for i in starts]
        return torch.cat(parts).double().cpu()

    @property
    def decode_block(self) -> int:
        """Images decoded at a time, by the grid alone: rounding depends on it."""
        return max(1, min(64, DECODED_VOXELS // math.prod(self.shape)))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Mean images of latents, decoded in full blocks of `decode_block` (padded, then dropped).

        Parameters
        ----------
        z : Tensor, shape (B, d)

        Returns
        -------
        Tensor, shape (B, 1, X, Y, Z)
            In [0, 1], on this model's device.
        """
        block = self.decode_block
        z = z.to(self.device, torch.float32)
        images = []
        for start in range(0, len(z), block):
            part = z[start : start + block]
            padded = torch.cat([part, part[-1:].expand(block - len(part), -1)])
            images.append(self.likelihood.mean(self.decoder(padded).float())[: len(part)])
        return torch.cat(images) if images else z.new_zeros((0, 1, *self.shape))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the mean codes of images (B, 1, X, Y, Z)."""
        return self.decode(self.encode(x)[0])

    def penalty(self) -> Tensor | float:
        """What the decoder's last images cost beside the objective, nats per image; mostly 0."""
        penalty = getattr(self.decoder, "penalty", None)
        return 0.0 if penalty is None else penalty()

    def start_from(self, start: TrainingStart) -> None:
        """Prepare an untrained model for its images; by default, centre the networks on their mean.

        Parameters
        ----------
        start : TrainingStart
            What is known of the training images.
        """
        for network in (self.encoder, self.decoder, self.metric_network):
            if network is not None:
                cast(StartsFromMean, network).centre_on(start.mean.to(self.device), start.deviation)
        if isinstance(self.decoder, ComponentDecoder):
            n = min(self.latent_dim, start.n_images - 1)
            found = principal_components(start.read, start.mean, start.n_images, n)
            self.decoder.basis.start_from(start.mean, found)

    @torch.no_grad()
    def _of_all(
        self, batches: Iterable[Tensor], function: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Two tensors of every image, (N, ...), evaluating, in full precision, on the CPU."""
        was_training = self.training
        self.eval()
        parts = [tuple(t.cpu() for t in function(x.to(self.device))) for x in batches]
        self.train(was_training)
        first, second = (torch.cat(part) for part in zip(*parts, strict=True))
        return first, second
