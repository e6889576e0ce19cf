"""``hmc``: sqrt(det G^-1) of the metric that an RHVAE learns (TPAMI eq. 9, 14)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.geometry import LearnedMetric, hmc
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.samplers.chain_sampler import ChainSampler
from neuroaug.samplers.registry import register_sampler


@register_sampler("hmc")
class HmcSampler(ChainSampler):
    """Hamiltonian Monte Carlo on the density of an RHVAE's metric."""

    metric_type = LearnedMetric
    needs = "the metric that an RHVAE learns"
    paper: ClassVar[dict[str, Any]] = {"n_steps": 300, "n_leapfrog": 15, "step_size": 0.03}

    def run(
        self, starts: Tensor, generator: TorchGenerator, **settings: Any
    ) -> tuple[Tensor, ChainInfo]:
        """Run Hamiltonian chains."""
        return hmc.sample(self.metric, starts, generator=generator, **settings)
