"""The plain VAE, for the geometric sampler (GEO; METHOD 4.3) and the baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from neuroaug.config import FamilySettings
from neuroaug.geometry.metrics.posterior import PosteriorMetric, nearest_neighbour_temperature
from neuroaug.models.flow import LossOutput, Noise, log_standard_normal
from neuroaug.models.generative_model import Gather, GenerativeModel, own_rows
from neuroaug.models.latent_model import MoveCodes
from neuroaug.models.likelihood import at_least_float32
from neuroaug.models.registry import register_family
from neuroaug.samplers.sampler import Codes

REGULARIZATION = 1e-2
"""lambda of the posterior metric (GEO Alg. 1)."""

DECAY = 0.0
"""tau of the posterior metric; samples are bounded by the radius instead."""

MAX_CENTROIDS = 500
"""Above this number of training images the metric is built on as many medoids."""


class VaeSettings(FamilySettings):
    """A plain VAE has no settings of its own."""


@register_family("vae", settings=VaeSettings)
class VAE(GenerativeModel):
    """Variational autoencoder with a Gaussian posterior of diagonal covariance."""

    default_sampler: ClassVar[str] = "geometric"
    metric_type = PosteriorMetric

    @property
    def codes(self) -> Codes | None:
        """Posteriors that the metric is built on."""
        return Codes(self.metric.means, self.metric.variances) if self.has_metric else None

    def loss(
        self,
        x: Tensor,
        noise: Noise | None = None,
        generator: torch.Generator | None = None,
        gather: Gather = own_rows,
    ) -> LossOutput:
        """Minus E_q[log p(x|z)] - KL(q(z|x) || N(0, I)): one sample, the divergence in closed form.

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
        divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(-1)
        bound = reconstruction - divergence
        none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return LossOutput(-bound.mean(), bound.detach(), reconstruction.detach(), none)

    def log_weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor:
        """Logarithm of p(x|z) p(z) / q(z|x), (B,)."""
        mean, log_variance = code
        eps = noise.eps.to(mean)
        z = mean + eps * (0.5 * log_variance).exp()
        log_q = log_standard_normal(eps) - 0.5 * log_variance.sum(-1)
        return self.likelihood.log_prob(x, self.decoder(z)) + log_standard_normal(z) - log_q

    # -- metric -----------------------------------------------------------------------------

    def update_metric(self, batches: Iterable[Tensor], moved: MoveCodes | None = None) -> None:
        """Compute the posterior metric; its rho is the largest distance to a nearest neighbour.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, 1, X, Y, Z)
            The training images, each once, in any batches.
        moved : callable, optional
            From the codes of all to the means that the metric is built on instead.
        """
        means, log_variances = self._of_all(batches, self.encode)
        means = means if moved is None else moved(means)
        variances = log_variances.exp()
        if len(means) > MAX_CENTROIDS:
            chosen = medoids(means, MAX_CENTROIDS)
            means, variances = means[chosen], variances[chosen]
        temperature = nearest_neighbour_temperature(means)
        self.metric = PosteriorMetric(means, variances, temperature, REGULARIZATION, DECAY)


def medoids(points: Tensor, k: int, n_rounds: int = 20) -> Tensor:
    """Choose the k of points (N, d) that stand for the rest: k-medoids without randomness.

    Starts from the farthest-point traversal of the data, begun at the overall medoid.
    """
    distances = torch.cdist(points.double(), points.double())
    chosen = [int(distances.sum(1).argmin())]
    nearest = distances[chosen[0]].clone()
    while len(chosen) < k:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distances[chosen[-1]])
    centers = torch.tensor(chosen)
    for _ in range(n_rounds):
        cluster = distances[:, centers].argmin(1)
        updated = centers.clone()
        for j in range(k):
            members = torch.nonzero(cluster == j)[:, 0]
            if len(members):
                updated[j] = members[distances[members][:, members].sum(1).argmin()]
        if bool((updated == centers).all()):
            break
        centers = updated
    return centers.sort().values
