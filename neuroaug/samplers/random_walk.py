"""``random-walk``: the Riemannian random walk as printed (OASIS Alg. 1; THESIS Alg. 3)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.geometry import LearnedMetric, random_walk
from neuroaug.geometry.mcmc import tuning
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.samplers.chain_sampler import ChainSampler
from neuroaug.samplers.registry import register_sampler


@register_sampler("random-walk")
class RandomWalkSampler(ChainSampler):
    """Riemannian random walk on an RHVAE's metric."""

    metric_type = LearnedMetric
    needs = "the metric that an RHVAE learns"
    # The scale is ours: none is printed.
    paper: ClassVar[dict[str, Any]] = {
        "n_steps": 200,
        "scale": 0.1,
        "n_geodesic_steps": random_walk.GEODESIC_STEPS,
    }
    find_settings = staticmethod(tuning.tune_random_walk)

    def run(
        self, starts: Tensor, generator: TorchGenerator, **settings: Any
    ) -> tuple[Tensor, ChainInfo]:
        """Run walks."""
        return random_walk.sample(self.metric, starts, generator=generator, **settings)
