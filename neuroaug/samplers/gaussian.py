"""``gaussian``: one Gaussian, of the law of anatomy or fitted to the training codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.samplers.registry import register_sampler
from neuroaug.samplers.sampler import Codes, CodesSampler, LatentBlock


@register_sampler("gaussian")
class GaussianSampler(CodesSampler):
    """One Gaussian: that of the law, where there is one, or of the codes.

    The covariance of codes is shrunken by Ledoit and Wolf's rule, so that few suffice.
    """

    @classmethod
    def fit(cls, codes: Codes) -> dict[str, Tensor]:
        """Fit it.

        Returns
        -------
        dict
            ``mean`` (d,), ``factor`` (d, d): Cholesky factor of the covariance; float64.
        """
        from sklearn.covariance import ledoit_wolf

        if codes.spread is not None:
            spread = codes.spread.double()
            return {"mean": torch.zeros(len(spread)).double(), "factor": _factor(spread)}
        means = codes.means.double()
        covariance, _ = ledoit_wolf(means.numpy())
        return {"mean": means.mean(0), "factor": _factor(torch.from_numpy(covariance))}

    def choose_settings(self) -> dict[str, Any]:
        """The dimension; a model of an earlier version is fitted now."""
        if self.name not in self.space.fitted:
            self.space.fitted[self.name] = self.fit(self.space.require_codes())
        return {"latent_dim": self.space.dimension}

    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Draw a block."""
        fitted = self.space.fitted[self.name]
        mean, factor = fitted["mean"], fitted["factor"]
        noise = torch.randn(block, len(mean), dtype=mean.dtype, generator=generator)
        return LatentBlock((mean + noise @ factor.T).float())


def _factor(covariance: Tensor) -> Tensor:
    """Cholesky factor; codes that are all equal in a direction have one too."""
    smallest = 1e-9 * covariance.diagonal().mean().clamp(min=1e-12)
    return torch.linalg.cholesky(covariance + smallest * torch.eye(len(covariance)).double())
