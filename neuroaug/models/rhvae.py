"""The Riemannian Hamiltonian VAE (TPAMI sec. 3; METHOD 2, 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from neuroaug.config import FamilySettings, GeneratorConfig
from neuroaug.geometry.metrics.functional import MetricTensors, from_factors, local_metric
from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.models.flow import (
    DecoderLikelihood,
    FlowEnd,
    LossOutput,
    Noise,
    flow,
    log_standard_normal,
    log_velocity,
    velocity_of_metric,
)
from neuroaug.models.generative_model import Gather, GenerativeModel, own_rows
from neuroaug.models.latent_model import MoveCodes
from neuroaug.models.likelihood import at_least_float32
from neuroaug.models.registry import register_family
from neuroaug.samplers.sampler import Codes

TRAINING_ITERATIONS = 3
"""Of each fixed point, as in the papers."""

EVALUATION_ITERATIONS = 10
"""The bound needs a flow that preserves volume, hence fixed points that are solved."""


class RhvaeSettings(FamilySettings):
    """Settings of an RHVAE (TPAMI Tables 11 and 12)."""

    n_leapfrog: int = Field(3, ge=1)
    step_size: float = Field(1e-3, gt=0)
    temperature: float = Field(1.5, gt=0)
    regularization: float = Field(1e-2, gt=0)
    beta_zero_sqrt: float = Field(0.3, gt=0, le=1)
    objective: Literal["published", "elbo"] = "published"
    second_order: bool = False


@register_family("rhvae", settings=RhvaeSettings)
class RHVAE(GenerativeModel):
    """VAE whose posterior is enriched by a Hamiltonian flow under a metric learned with it.

    Two conventions of the training objective (``config.objective``):

    - ``published``: the authors' code, from which the published figures come. The velocity starts
      as v_0 = L_psi(x) gamma / sqrt(beta_0), and its log-density is left out.
    - ``elbo``: the papers' bound as printed, v_0 ~ N(0, G(z_0)) / sqrt(beta_0). It gives the metric
      network almost no signal.

    Either way the method `elbo` is the bound as printed.
    """

    default_sampler: ClassVar[str] = "hmc"
    learns_metric: ClassVar[bool] = True
    metric_type = LearnedMetric
    tempering_settings: ClassVar[tuple[str, ...]] = ("learning_rate", "step_size")
    config: RhvaeSettings

    @property
    def codes(self) -> Codes | None:
        """Mean codes of the training images, the centroids of the metric."""
        return Codes(self.metric.centroids) if self.has_metric else None

    @classmethod
    def decoder_passes(cls, settings: GeneratorConfig) -> int:
        """One; with ``second_order`` every position of the flow, and its own gradient."""
        own = settings.resolved()
        assert isinstance(own, RhvaeSettings)
        return 2 * (own.n_leapfrog + 1) if own.second_order else 1

    def factors(self, x: Tensor) -> Tensor:
        """L_psi(x), lower triangular with a positive diagonal, (B, d, d) (METHOD 2)."""
        assert self.metric_network is not None, "an RHVAE has a metric network"
        return at_least_float32(self.metric_network(x))

    # -- objective --------------------------------------------------------------------------

    def _flow(
        self,
        tensors: MetricTensors,
        likelihood: DecoderLikelihood,
        z: Tensor,
        v: Tensor,
        n_iterations: int,
    ) -> FlowEnd:
        return flow(
            tensors,
            likelihood,
            z,
            v / self.config.beta_zero_sqrt,
            n_steps=self.config.n_leapfrog,
            step_size=self.config.step_size,
            beta_zero_sqrt=self.config.beta_zero_sqrt,
            n_iterations=n_iterations,
        )

    def loss(
        self,
        x: Tensor,
        noise: Noise | None = None,
        generator: torch.Generator | None = None,
        gather: Gather = own_rows,
    ) -> LossOutput:
        """Training objective, with the metric of this batch's centroids (TPAMI Alg. 1).

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        noise : Noise, optional
            Fixed numbers; drawn from `generator` when not given.
        generator : torch.Generator, optional
            Source of the noise.
        gather : callable
            Completes this process's rows of the batch: the metric of a step is that of the whole
            batch, wherever its images are.

        Returns
        -------
        LossOutput
            Its ``elbo`` is a bound for the velocity's actual law: N(0, M(x)) under ``published``.
        """
        noise = self._noise_for(x, noise, generator)
        mean, log_variance = map(at_least_float32, self.encoder(x))
        factors = self.factors(x)
        kind = x.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with torch.autocast(kind, enabled=False):
            everyone = (gather(mean), gather(factors))
            tensors = from_factors(*everyone, self.config.temperature, self.config.regularization)
            z = mean + noise.eps * (0.5 * log_variance).exp()
            log_q = log_standard_normal(noise.eps) - 0.5 * log_variance.sum(-1)
            if self.config.objective == "published":
                v = (factors @ noise.gamma[..., None])[..., 0]
                # log N(L gamma; 0, L L^T): kept for the bound, left out of the objective
                log_v = log_standard_normal(noise.gamma) - factors.diagonal(
                    dim1=-2, dim2=-1
                ).log().sum(-1)
            else:
                local = local_metric(z, tensors)
                v = velocity_of_metric(local, noise.gamma)
                log_v = log_velocity(local, v)
            likelihood = DecoderLikelihood(
                self.decoder, self.likelihood, x, self.config.second_order, precision
            )
            end = self._flow(tensors, likelihood, z, v, TRAINING_ITERATIONS)
            rest = (
                log_standard_normal(end.state.z)
                + log_velocity(end.state.local, end.state.v)
                - log_q
            )
            left_out = log_v.detach()
            if self.config.objective == "elbo":
                rest, left_out = rest - log_v, torch.zeros_like(left_out)
            loss = -(end.likelihood.total / len(x) + rest.mean())
        values = end.likelihood.values.detach()
        return LossOutput(loss, values + rest.detach() - left_out, values, end.n_halvings)

    def log_weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor:
        """Logarithm of p(x, z_K) N(v_K; 0, G(z_K)) / [q(z_0|x) N(gamma_0; 0, G(z_0))], (B,).

        METHOD 3. gamma_0 is the velocity before its scaling by 1 / sqrt(beta_0): scaling and
        tempering cancel, so no beta_0 term is left.
        """
        mean, log_variance = code
        centroids, matrices, temperature, regularization = self.metric.tensors
        tensors = MetricTensors(centroids.to(mean), matrices.to(mean), temperature, regularization)
        eps, gamma = noise.to(mean)
        z = mean + eps * (0.5 * log_variance).exp()
        local = local_metric(z, tensors)
        v = velocity_of_metric(local, gamma)
        log_q = log_standard_normal(eps) - 0.5 * log_variance.sum(-1) + log_velocity(local, v)
        end = self._flow(
            tensors,
            DecoderLikelihood(self.decoder, self.likelihood, x),
            z,
            v,
            EVALUATION_ITERATIONS,
        )
        log_p = (
            end.likelihood.values
            + log_standard_normal(end.state.z)
            + log_velocity(end.state.local, end.state.v)
        )
        return log_p - log_q

    # -- metric -----------------------------------------------------------------------------

    def update_metric(self, batches: Iterable[Tensor], moved: MoveCodes | None = None) -> None:
        """Compute centroids and factors of all training images, evaluating, in full precision.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, 1, X, Y, Z)
            The training images, each once, in any batches.
        moved : callable, optional
            From the codes of all to where the metric has its centroids instead.
        """
        centroids, factors = self._of_all(batches, lambda x: (self.encode(x)[0], self.factors(x)))
        centroids = centroids if moved is None else moved(centroids)
        config = self.config
        self.metric = LearnedMetric(centroids, factors, config.temperature, config.regularization)
