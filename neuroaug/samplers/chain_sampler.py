"""What the samplers that run Markov chains have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.geometry import LearnedMetric, PosteriorMetric, diagnostics
from neuroaug.geometry.mcmc import tuning
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.samplers.sampler import SAMPLING_THREADS, LatentBlock, LatentSpace, Sampler
from neuroaug.system.threads import torch_threads

N_DIAGNOSED = 64
"""Chains of a block whose whole paths are kept for split R-hat and effective sample size."""

# A chain has stayed when it ends within this fraction of the centroids' spread of its start;
# latents are called stuck when more than the second figure of them stayed (independent ones do so
# far less often, from d = 2 on).
STAYED_FRACTION, STUCK_SHARE = 0.1, 0.2

MAX_R_HAT = 1.2
"""Above this split R-hat of a block the user is told that latents depend on where chains start."""


class ChainSampler(Sampler):
    """Chains on a metric's density, each started at a training image's code.

    Attributes
    ----------
    metric_type : type
        The metric that it runs on.
    paper : dict
        The settings as published.
    """

    metric_type: ClassVar[type]
    paper: ClassVar[dict[str, Any]]
    find_settings: ClassVar[Callable[..., dict[str, Any]]] = staticmethod(tuning.tune_hmc)

    @classmethod
    def suits(cls, space: LatentSpace) -> bool:
        """Whether the space has the metric that the chains run on."""
        return isinstance(space.metric, cls.metric_type)

    @classmethod
    def tune(cls, space: LatentSpace) -> dict[str, Any]:
        """Settings by pilot chains (`neuroaug.geometry.mcmc.tuning`).

        Returns
        -------
        dict
            ``step_size`` (or ``scale``), ``n_leapfrog``, ``n_steps``, ``r_hat``, ``ess`` (per
            chain), ``acceptance``, ``displacement``, ``n_divergent``, ``mixed``.
        """
        metric = space.metric
        assert metric is not None
        with torch_threads(SAMPLING_THREADS):
            found = cls.find_settings(metric, metric.centroids, metric.radius)
        exact = ("step_size", "scale")
        return {
            key: round(value, 4) if isinstance(value, float) and key not in exact else value
            for key, value in found.items()
        }

    @property
    def metric(self) -> LearnedMetric | PosteriorMetric:
        """The metric that the chains run on."""
        assert self.space.metric is not None
        return self.space.metric

    def choose_settings(self) -> dict[str, Any]:
        """The published settings, or those tuned; a model that was not tuned is tuned now, once."""
        chosen = dict(self.paper)
        if self.profile != "paper":
            if self.name not in self.space.tuned:
                self.space.tuned[self.name] = self.tune(self.space)
            tuned = self.space.tuned[self.name]
            chosen = {key: value for key, value in tuned.items() if key in self.paper}
        return {**chosen, "radius": self.metric.radius}

    @abstractmethod
    def run(
        self, starts: Tensor, generator: TorchGenerator, **settings: Any
    ) -> tuple[Tensor, ChainInfo]:
        """Run chains from `starts` (B, d); the last positions, and how they got there."""

    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Run a block of chains from centroids chosen at random."""
        metric = self.metric
        starts = metric.centroids[torch.randint(metric.n_centroids, (block,), generator=generator)]
        z, info = self.run(
            starts, generator, trace=True, n_workers=SAMPLING_THREADS, **self.settings
        )
        if self.settings["n_steps"] < diagnostics.MIN_SAMPLES:
            return LatentBlock(z, info)
        found = tuning.mixing(info, N_DIAGNOSED)
        return LatentBlock(z, info, found.r_hat, found.ess)

    def verdict(
        self, acceptance: np.ndarray, displacement: np.ndarray, r_hat: np.ndarray
    ) -> tuple[bool, str | None]:
        """Whether too many chains stayed at their centroids, and what to say about the chains."""
        centroids = self.metric.centroids
        spread = float((centroids - centroids.mean(0)).norm(dim=1).square().mean().sqrt())
        stayed = float(np.mean(displacement <= STAYED_FRACTION * spread))
        paper = self.profile == "paper"
        advice = (
            "use --sampler-profile tuned" if paper else "look at the metric contrast of the model"
        )
        if stayed > STUCK_SHARE:
            return True, (
                f"{stayed:.0%} of the chains stayed at their centroids (acceptance "
                f"{acceptance.mean():.2f}, median displacement {np.median(displacement):.3g} of a "
                f"spread of {spread:.3g}): these samples are near copies of training codes; "
                f"{advice}"
            )
        worst = float(np.max(r_hat))
        if worst <= MAX_R_HAT:
            return False, None
        modes = (
            f"the density has separate modes around the {len(centroids)} training codes, and each "
            "draw explores the one it started from, chosen at random, as the papers' sampler does "
            "where images are few; a larger generator.temperature or a smaller "
            "generator.latent_dim joins them"
        )
        return False, (
            f"the chains have moved but not mixed (split R-hat {worst:.2f}): "
            f"{advice if paper else modes}"
        )
