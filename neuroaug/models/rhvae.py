"""The Riemannian Hamiltonian VAE (TPAMI sec. 3; METHOD 2, 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

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
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.models.likelihood import at_least_float32

TRAINING_ITERATIONS = 3
"""Of each fixed point, as in the papers."""

EVALUATION_ITERATIONS = 10
"""The bound needs a flow that preserves volume, hence fixed points that are solved."""


class RHVAE(GenerativeModel):
    """VAE whose posterior is enriched by a Hamiltonian flow under a metric learned with it.

    Two conventions of the training objective (``config.objective``):

    - ``published``: the authors' code, from which the published figures come. The velocity starts
      as
      v_0 = L_psi(x) gamma / sqrt(beta_0), and its log-density is left out.
    - ``elbo``: the papers' bound to the letter, v_0 ~ N(0, G(z_0)) / sqrt(beta_0). It gives the
      metric
      network almost no signal.

    Either way `elbo` is the bound to the letter.
    """

    name: ClassVar[str] = "rhvae"
    default_sampler: ClassVar[str] = "hmc"

    @property
    def centroids(self) -> Tensor:
        """c_i, the mean codes that the metric is built on, (N, d)."""
        return self.metric.centroids

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
        self, x: Tensor, noise: Noise | None = None, generator: torch.Generator | None = None
    ) -> LossOutput:
        """Training objective, with the metric of this batch's centroids (TPAMI Alg. 1).

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        noise : Noise, optional
            Fixed draws; drawn from `generator` when not given.

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
            everyone = (self.gather(mean), self.gather(factors))
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
        """Logarithm of p(x, z_K) N(v_K; 0, G(z_K)) / [q(z_0|x) N(gamma_0; 0, G(z_0))], (B,) (METHOD
        3).

        gamma_0 is the velocity before its scaling by 1 / sqrt(beta_0): the scaling and the
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

    def update_metric(self, batches: Iterable[Tensor]) -> None:
        """Compute centroids and factors of all training images, in evaluation mode and full
        precision.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, 1, X, Y, Z)
            The training images, each once, in any batches.
        """
        centroids, factors = self._of_all(batches, lambda x: (self.encode(x)[0], self.factors(x)))
        self.set_metric_tensors(
            {
                "centroids": centroids,
                "factors": factors,
                "temperature": torch.tensor(self.config.temperature, dtype=torch.float64),
                "regularization": torch.tensor(self.config.regularization, dtype=torch.float64),
            }
        )

    def metric_tensors(self) -> dict[str, Tensor]:
        """Give the metric as named tensors."""
        metric = self.metric
        return {
            "centroids": metric.centroids,
            "factors": metric.factors,
            "temperature": torch.tensor(float(metric.temperature), dtype=torch.float64),
            "regularization": torch.tensor(float(metric.regularization), dtype=torch.float64),
        }

    def set_metric_tensors(self, tensors: dict[str, Any]) -> None:
        """Rebuild the metric from named tensors."""
        self.metric = LearnedMetric(
            tensors["centroids"],
            tensors["factors"],
            temperature=float(tensors["temperature"]),
            regularization=float(tensors["regularization"]),
        )
