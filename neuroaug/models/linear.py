"""``linear``: principal components, with the exact density of their probabilistic model.

Tipping and Bishop 1999: x = mean + U z + noise, z ~ N(0, Lambda - sigma^2 I), noise ~ N(0, sigma^2
I). Its maximum of likelihood is in closed form: U the first d principal directions, Lambda
their variances, sigma^2 the mean variance of those left out. Codes are the scores U^T (x - mean):
distances between codes are distances between images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neuroaug.config import FamilySettings, GeneratorConfig
from neuroaug.models.autoencoder import TrainingStart
from neuroaug.models.flow import LossOutput, Noise
from neuroaug.models.generative_model import Gather, GenerativeModel, own_rows
from neuroaug.models.latent_model import MoveCodes
from neuroaug.models.likelihood import LOG_2PI, Gaussian
from neuroaug.models.networks.heads import Networks
from neuroaug.models.principal_components import principal_components
from neuroaug.models.registry import register_family
from neuroaug.samplers.sampler import Codes

LEAST_VARIANCE = 1e-8
"""Of a voxel's noise: images that the components explain entirely have a density too."""


class LinearSettings(FamilySettings):
    """Principal components have no settings of their own; ``latent_dim`` is their number."""

    def for_images(self, n_images: int) -> LinearSettings:
        """No more components than images less one."""
        if self.latent_dim == "auto":
            return self
        d = max(1, min(self.n_latents, n_images - 1))
        return self.model_copy(update={"latent_dim": d})


class LinearDecoder(nn.Module):
    """Scores to images: mean + U z."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = shape
        self.mean = nn.Parameter(torch.zeros(shape).flatten())
        self.directions = nn.Parameter(torch.zeros(self.mean.numel(), latent_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, 1, X, Y, Z) of scores (B, d)."""
        return (self.mean + z @ self.directions.T).unflatten(1, (1, *self.grid))


class LinearEncoder(nn.Module):
    """Images to scores, of one variance; the directions are the decoder's."""

    def __init__(self, decoder: LinearDecoder) -> None:
        super().__init__()
        self._decoder = (decoder,)  # in a tuple: its values are stored once
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and log-variances (B, d) of images (B, 1, X, Y, Z)."""
        (decoder,) = self._decoder
        scores = (x.flatten(1) - decoder.mean) @ decoder.directions
        return scores, self.log_variance.expand_as(scores)


@register_family("linear", settings=LinearSettings)
class LinearModel(GenerativeModel):
    """Probabilistic principal components, found in closed form: nothing is trained."""

    default_sampler: ClassVar[str] = "gaussian"
    in_closed_form: ClassVar[bool] = True
    codes_have_standard_prior: ClassVar[bool] = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.log_variances = nn.Parameter(torch.zeros(self.latent_dim))
        self._codes: Tensor | None = None
        self.likelihood = Gaussian(link="clamp")

    @classmethod
    def networks(cls, config: GeneratorConfig, shape: tuple[int, ...]) -> Networks:
        """Two linear maps; what the configuration says of networks does not count."""
        decoder = LinearDecoder(config.n_latents, tuple(shape))
        return Networks(LinearEncoder(decoder), decoder, None)

    def start_from(self, start: TrainingStart) -> None:
        """Find the components: the maximum of likelihood."""
        decoder, encoder = self.decoder, self.encoder
        assert isinstance(decoder, LinearDecoder)
        assert isinstance(encoder, LinearEncoder)
        found = principal_components(start.read, start.mean, start.n_images, self.latent_dim)
        noise = max(found.left_out, LEAST_VARIANCE)
        with torch.no_grad():
            decoder.mean.copy_(start.mean.flatten())
            decoder.directions.copy_(found.directions)
            encoder.log_variance.fill_(torch.tensor(noise).log())
            self.log_variances.copy_(found.variances.clamp(min=noise).log())

    def _log_density(self, x: Tensor) -> Tensor:
        """Exact log p(x), (B,): along the components, and the same noise in every other direction.

        Of the covariance U diag(v) U^T + sigma^2 (I - U U^T).
        """
        decoder = self.decoder
        assert isinstance(decoder, LinearDecoder)
        encoder = self.encoder
        assert isinstance(encoder, LinearEncoder)
        noise = encoder.log_variance
        with torch.autocast(x.device.type, enabled=False):
            centred = x.float().flatten(1) - decoder.mean
            scores = centred @ decoder.directions
            rest = centred.square().sum(1) - scores.square().sum(1)
            n_rest = centred.shape[1] - self.latent_dim
            inside = (scores.square() / self.log_variances.exp() + self.log_variances).sum(1)
            outside = rest / noise.exp() + n_rest * noise
            return -0.5 * (inside + outside + centred.shape[1] * LOG_2PI)

    def loss(
        self,
        x: Tensor,
        noise: Noise | None = None,
        generator: torch.Generator | None = None,
        gather: Gather = own_rows,
    ) -> LossOutput:
        """Minus the exact log p(x) of images (B, 1, X, Y, Z); no noise is drawn."""
        density = self._log_density(x)
        none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return LossOutput(-density.mean(), density.detach(), density.detach(), none)

    def log_weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor:
        """Exact log p(x), (B,), whatever the noise."""
        return self._log_density(x)

    # -- codes ------------------------------------------------------------------------------

    @property
    def codes(self) -> Codes | None:
        """Scores of the training images."""
        return None if self._codes is None else Codes(self._codes)

    def update_metric(self, batches: Iterable[Tensor], moved: MoveCodes | None = None) -> None:
        """Keep the scores of the training images; there is no metric."""
        scores, _ = self._of_all(batches, self.encode)
        self._codes = scores if moved is None else moved(scores)

    def metric_tensors(self) -> dict[str, Tensor]:
        """Give the scores."""
        return {} if self._codes is None else {"codes": self._codes}

    def set_metric_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take the scores back."""
        self._codes = tensors["codes"]

    def diagnostics(self) -> dict[str, float]:
        """Nothing beside the density."""
        return {}
