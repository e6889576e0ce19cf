"""What the two generators have in common: networks, encoding, decoding, drawing, files."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError, ResourceError
from neuroaug.models.flow import LossOutput, Noise, draw_noise
from neuroaug.models.likelihood import Bernoulli, Gaussian, at_least_float32
from neuroaug.models.metric_contrast import MetricContrast, metric_contrast
from neuroaug.models.networks import ConvDecoder, ConvTrunk, Networks, build_networks, n_parameters
from neuroaug.system.files import human_bytes
from neuroaug.system.memory import available_memory

DECODED_VOXELS = 4_000_000
"""About as many voxels are decoded at a time when images are drawn."""


def require_room(config: GeneratorConfig, shape: tuple[int, ...]) -> None:
    """Refuse networks whose weights alone do not fit into memory, before anything is allocated.

    Raises
    ------
    ResourceError
        With the estimate.
    """
    with torch.device("meta"):
        n = n_parameters(build_networks(config, shape))
    available = available_memory()
    if 4 * n > available:
        raise ResourceError(
            f"network {config.network} on a grid of {'x'.join(map(str, shape))} has {n:,} parameters: "
            f"{human_bytes(4 * n)}, and {human_bytes(16 * n)} to train it with Adam; {human_bytes(available)} of "
            "memory are free; use network: conv3d, a lower latent_dim, or a machine with more memory"
        )


class GenerativeModel(nn.Module):
    """A generative model of the images of one diagnosis.

    Parameters
    ----------
    config : GeneratorConfig
        Networks and settings.
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
    default_sampler: ClassVar[str]
    gather: Callable[[Tensor], Tensor] = staticmethod(lambda rows: rows)
    """From this process's rows of a batch to the rows of all processes; training sets it where
    there are several.
    """

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
        self.config = config.model_copy(update={"model": self.name})
        self.shape = tuple(int(n) for n in shape)
        self.label = label
        self.grid = grid
        self.latent_dim = config.latent_dim
        self.likelihood = Bernoulli() if config.likelihood == "bernoulli" else Gaussian(link=link)
        self.sampler_settings: dict[str, Any] = {}
        """What `samplers.tune_step_size` found; stored with the model."""
        self.training_record: dict[str, Any] = {}
        """What training wants to be remembered (seed, epochs, split hash); stored with the model.
        """
        self._metric: Any = None
        if networks is None:
            require_room(self.config, self.shape)
            networks = build_networks(self.config, self.shape)
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
                f"images of shape {tuple(x.shape)}: this model is of another grid, expected (B, 1, {expected}); "
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

    @property
    def decode_block(self) -> int:
        """Images decoded at a time, by the grid alone: rounding depends on it, so nothing else may."""
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

    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Start training from the training images' mean, where the networks can (conv3d).

        The papers' fully connected networks are left as published.

        Parameters
        ----------
        mean_image : Tensor, shape (X, Y, Z)
            Mean of the training images.
        deviation : float
            Standard deviation of the images around it, over all voxels.
        """
        if not isinstance(self.decoder, ConvDecoder):
            return
        mean_image = mean_image.to(self.device)
        self.decoder.centre_on(mean_image)
        for module in self.modules():
            if isinstance(module, ConvTrunk):
                module.centre_on(mean_image, deviation)

    # -- metric -----------------------------------------------------------------------------

    @property
    def metric(self) -> Any:
        """The metric that samples are drawn from, computed over all training images.

        Raises
        ------
        InputError
            If it has not been computed yet.
        """
        if self._metric is None:
            raise InputError(
                "this model has no metric yet; train it, or call update_metric with its training images"
            )
        return self._metric

    @metric.setter
    def metric(self, metric: Any) -> None:
        self._metric = metric

    @property
    def has_metric(self) -> bool:
        """Whether `metric` has been computed."""
        return self._metric is not None

    @property
    @abstractmethod
    def centroids(self) -> Tensor:
        """c_i, the mean codes of the training images, (N, d)."""

    @property
    def radius(self) -> float:
        """Radius of the set S that is sampled in: 2 max_i |c_i| (METHOD 2)."""
        return 2 * float(self.centroids.norm(dim=-1).max())

    @abstractmethod
    def update_metric(self, batches: Iterable[Tensor]) -> None:
        """Compute the metric anew over all training images, in evaluation mode.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, 1, X, Y, Z)
            The training images, each once, in any batches.
        """

    @torch.no_grad()
    def _of_all(
        self, batches: Iterable[Tensor], function: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Two tensors of every training image, (N, ...), in evaluation mode and full precision, on
        the CPU.
        """
        was_training = self.training
        self.eval()
        parts = [tuple(t.cpu() for t in function(x.to(self.device))) for x in batches]
        self.train(was_training)
        first, second = (torch.cat(part) for part in zip(*parts, strict=True))
        return first, second

    def metric_contrast(self) -> MetricContrast:
        """Compare the log-density that is sampled from at the centroids and at typical points of
        the prior.
        """
        return metric_contrast(self.metric, self.centroids)

    # -- objective --------------------------------------------------------------------------

    def draw_noise(self, n: int, generator: torch.Generator | None = None) -> Noise:
        """Noise for `n` images; the same noise gives the same loss."""
        return draw_noise(n, self.latent_dim, generator)

    def _noise_for(
        self, x: Tensor, noise: Noise | None, generator: torch.Generator | None
    ) -> Noise:
        return (noise or self.draw_noise(len(x), generator)).to(x.device)

    def forward(self, x: Tensor, noise: Noise | None = None) -> LossOutput:
        """`loss`, for wrappers that only know `forward`."""
        return self.loss(x, noise)

    @abstractmethod
    def loss(
        self, x: Tensor, noise: Noise | None = None, generator: torch.Generator | None = None
    ) -> LossOutput:
        """Training objective on a batch of images (B, 1, X, Y, Z) in [0, 1]."""

    @abstractmethod
    def log_weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor:
        """Logarithm of the unbiased estimate of p(x) with the given noise (METHOD 3).

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        code : tuple of Tensor, shape (B, d)
            Mean and log-variance of q(z|x).
        noise : Noise
            Standard normal draws.

        Returns
        -------
        Tensor, shape (B,)
        """

    @torch.no_grad()
    def elbo(
        self, x: Tensor, noise: Noise | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Bound on log p(x), one draw an image, with the stored metric (METHOD 3), nats.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        noise : Noise, optional
            Fixed draws; drawn from `generator` when not given.

        Returns
        -------
        Tensor, shape (B,)
        """
        x = x.to(self.device)
        return self.log_weights(x, self.encode(x), self._noise_for(x, noise, generator))

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate log p(x) by importance sampling: log-mean-exp of `n_samples` draws of the
        bound's integrand.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        n_samples : int
            Draws an image (the papers use 100).
        generator : torch.Generator, optional
            Source of the draws.

        Returns
        -------
        Tensor, shape (B,)
            A lower bound in expectation that tightens with `n_samples`.
        """
        x = x.to(self.device)
        code = self.encode(x)
        at_once = max(1, min(n_samples, DECODED_VOXELS // max(x.numel(), 1)))
        draws = []
        for start in range(0, n_samples, at_once):
            n = min(at_once, n_samples - start)
            repeated = x.repeat(n, 1, 1, 1, 1)
            mean, log_variance = (part.repeat(n, 1) for part in code)
            noise = self._noise_for(repeated, None, generator)
            draws.append(
                self.log_weights(repeated, (mean, log_variance), noise).unflatten(0, (n, len(x)))
            )
        return torch.logsumexp(torch.cat(draws), 0) - math.log(n_samples)

    # -- drawing ----------------------------------------------------------------------------

    def sample_latents(
        self, n: int, sampler: str | None = None, seed: int = 0, profile: str = "tuned"
    ) -> tuple[Tensor, Any]:
        """Draw latents 1..n (see `neuroaug.synthesis.draws`).

        Returns
        -------
        z : Tensor, shape (n, d)
            On the CPU.
        info : DrawInfo
            Acceptance, displacement and diagnostics of every draw.
        """
        from neuroaug.synthesis.draws import draw_latents

        return draw_latents(
            self,
            (1, n),
            sampler=sampler or self.default_sampler,
            profile=profile,
            seed=seed,
            label=self.label,
        )

    def sample(
        self, n: int, sampler: str | None = None, seed: int = 0, profile: str = "tuned"
    ) -> Tensor:
        """Draw images 1..n: image i is a function of (model, seed, label, i) alone.

        Parameters
        ----------
        n : int
            How many.
        sampler : str, optional
            ``hmc``, ``random-walk``, ``geometric``, ``prior`` or ``mixture``.
        seed : int
            Of the set.
        profile : {"tuned", "paper"}
            The sampler's settings.

        Returns
        -------
        Tensor, shape (n, 1, X, Y, Z)
            In [0, 1], on the CPU.
        """
        z, _ = self.sample_latents(n, sampler=sampler, seed=seed, profile=profile)
        block = self.decode_block
        return torch.cat([self.decode(part).cpu() for part in z.split(block)])

    # -- files ------------------------------------------------------------------------------

    @abstractmethod
    def metric_tensors(self) -> dict[str, Tensor]:
        """Give the metric as named tensors."""

    @abstractmethod
    def set_metric_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Rebuild the metric from named tensors."""

    def save(self, folder: str | Path) -> None:
        """Write the model folder (see `neuroaug.models.storage`)."""
        from neuroaug.models.storage import save_model

        save_model(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model folder.

        Raises
        ------
        InputError
            If it holds another kind of model, or one of its files was changed.
        """
        from neuroaug.models.storage import load_model

        model = load_model(folder)
        if not isinstance(model, cls):
            raise InputError(
                f"{folder}: holds a {model.name}, not a {cls.name}; load it with load_model"
            )
        return model
