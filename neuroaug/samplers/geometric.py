"""``geometric``: sqrt(det G) of the posteriors of a plain VAE (GEO Alg. 2)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.geometry import PosteriorMetric, hmc
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.samplers.chain_sampler import ChainSampler
from neuroaug.samplers.registry import register_sampler


@register_sampler("geometric")
class GeometricSampler(ChainSampler):
    """Hamiltonian Monte Carlo on the metric of a VAE's posterior covariances."""

    metric_type = PosteriorMetric
    needs = "the posterior covariances of a plain VAE"
    paper: ClassVar[dict[str, Any]] = {"n_steps": 100, "n_leapfrog": 10, "step_size": 0.01}

    def run(
        self, starts: Tensor, generator: TorchGenerator, **settings: Any
    ) -> tuple[Tensor, ChainInfo]:
        """Run Hamiltonian chains."""
        return hmc.sample(self.metric, starts, generator=generator, **settings)
