"""``vamp``: a VAE whose prior is the mixture of the posteriors of learned pseudo-inputs.

THESIS 1.3, GEO App. C. With pseudo-inputs u_1, ..., u_K,

    p(z) = 1/K sum_k q(z | u_k),

and the loss is ``-log p(x|z) - log p(z) + log q(z|x)`` at one sample z of q(z|x). Pseudo-inputs are
images that training moves; they start at training images, and may still look like them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator as TorchGenerator
from torch import Tensor, nn

from neuroaug.config import FamilySettings, GeneratorConfig
from neuroaug.models.autoencoder import TrainingStart
from neuroaug.models.flow import LossOutput, Noise, log_standard_normal
from neuroaug.models.generative_model import Gather, own_rows
from neuroaug.models.latent_model import MoveCodes
from neuroaug.models.likelihood import at_least_float32
from neuroaug.models.registry import register_family
from neuroaug.models.vae import VAE
from neuroaug.samplers.registry import register_sampler
from neuroaug.samplers.sampler import LatentBlock, LatentSpace, Sampler
from neuroaug.system.randomness import KEYED

MOST_PSEUDO_INPUTS = 50
STARTING_NOISE = 0.05
"""Standard deviation of what is added to the images that pseudo-inputs start at."""


class VampSettings(FamilySettings):
    """Settings of a VAMP."""

    n_pseudo_inputs: int | None = Field(
        None, ge=1, description="null: a fifth of the training images, 1 to 50"
    )

    def for_images(self, n_images: int) -> VampSettings:
        """As many pseudo-inputs as a fifth of the images: with as many as images they are these."""
        if self.n_pseudo_inputs is not None:
            return self
        n = max(1, min(MOST_PSEUDO_INPUTS, n_images // 5))
        return self.model_copy(update={"n_pseudo_inputs": n})


@register_family("vamp", settings=VampSettings)
class VAMP(VAE):
    """VAE whose prior is the mixture of posteriors of learned pseudo-inputs; own sampler."""

    default_sampler: ClassVar[str] = "vamp"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        n = self.encoded_beside(self.config)
        self.pseudo_inputs = nn.Parameter(torch.full((n, 1, *self.shape), 0.5))

    @classmethod
    def encoded_beside(cls, settings: GeneratorConfig) -> int:
        """The pseudo-inputs, which every step encodes."""
        own = settings.resolved()
        assert isinstance(own, VampSettings)
        return own.n_pseudo_inputs or 1

    def start_from(self, start: TrainingStart) -> None:
        """Start pseudo-inputs at training images, with noise, so that they are of their kind."""
        super().start_from(start)
        generator = torch.Generator().manual_seed(KEYED.seed("vamp", "pseudo-inputs"))
        noise = torch.randn(self.pseudo_inputs.shape, generator=generator)
        images = start.images(len(noise)) + STARTING_NOISE * noise
        with torch.no_grad():
            self.pseudo_inputs.copy_(images.clamp(0, 1))

    def log_prior(self, z: Tensor) -> Tensor:
        """Logarithm of p(z) of latents (B, d), (B,)."""
        mean, log_variance = map(at_least_float32, self.encoder(self.pseudo_inputs.clamp(0, 1)))
        apart = (z[:, None] - mean) * (-0.5 * log_variance).exp()
        each = log_standard_normal(apart) - 0.5 * log_variance.sum(-1)
        return torch.logsumexp(each, 1) - math.log(len(mean))

    def loss(
        self,
        x: Tensor,
        noise: Noise | None = None,
        generator: torch.Generator | None = None,
        gather: Gather = own_rows,
    ) -> LossOutput:
        """Minus the bound of `log_weights`, one sample per image.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        noise : Noise, optional
            Fixed numbers (`eps` alone counts); drawn from `generator` when not given.
        generator : torch.Generator, optional
            Source of the noise.
        gather : callable
            Not used: each image stands alone.
        """
        noise = self._noise_for(x, noise, generator)
        mean, log_variance = map(at_least_float32, self.encoder(x))
        z = mean + noise.eps * (0.5 * log_variance).exp()
        reconstruction = self.likelihood.log_prob(x, self.decoder(z))
        log_q = log_standard_normal(noise.eps) - 0.5 * log_variance.sum(-1)
        bound = reconstruction + self.log_prior(z) - log_q
        none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return LossOutput(-bound.mean(), bound.detach(), reconstruction.detach(), none)

    def log_weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor:
        """Logarithm of p(x|z) p(z) / q(z|x), (B,)."""
        mean, log_variance = code
        eps = noise.eps.to(mean)
        z = mean + eps * (0.5 * log_variance).exp()
        log_q = log_standard_normal(eps) - 0.5 * log_variance.sum(-1)
        return self.likelihood.log_prob(x, self.decoder(z)) + self.log_prior(z) - log_q

    def update_metric(self, batches: Iterable[Tensor], moved: MoveCodes | None = None) -> None:
        """Compute the posterior metric of the training images, and the prior's components.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, 1, X, Y, Z)
            The training images, each once, in any batches.
        moved : callable, optional
            From the codes of all to the means that the metric is built on instead.
        """
        super().update_metric(batches, moved)
        pseudo = [self.pseudo_inputs.detach().clamp(0, 1)]
        means, log_variances = self._of_all(pseudo, self.encode)
        self.sampler_tensors["vamp"] = {"means": means, "variances": log_variances.exp()}


@register_sampler("vamp")
class VampSampler(Sampler):
    """The prior of a VAMP: a pseudo-input chosen at random, then a sample of its posterior."""

    needs = "the pseudo-inputs of a vamp"

    @classmethod
    def suits(cls, space: LatentSpace) -> bool:
        """Whether the model has pseudo-inputs."""
        under_a_law = space.codes is not None and space.codes.spread is not None
        return cls.name in space.fitted and not under_a_law

    def choose_settings(self) -> dict[str, Any]:
        """The number of components."""
        return {"n_components": len(self.space.fitted[self.name]["means"])}

    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Draw components, then latents."""
        means, variances = (self.space.fitted[self.name][part] for part in ("means", "variances"))
        chosen = torch.randint(len(means), (block,), generator=generator)
        noise = torch.randn(block, means.shape[1], generator=generator)
        return LatentBlock(means[chosen] + variances[chosen].sqrt() * noise)
