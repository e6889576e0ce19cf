"""``mixture``: a Gaussian mixture fitted to the codes of the training images."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.samplers.registry import register_sampler
from neuroaug.samplers.sampler import Codes, CodesSampler, LatentBlock


@register_sampler("mixture")
class MixtureSampler(CodesSampler):
    """Gaussian mixture with full covariances, fitted to the mean codes."""

    @classmethod
    def fit(cls, codes: Codes) -> dict[str, Tensor]:
        """Fit the mixture.

        Returns
        -------
        dict
            ``weights`` (K,), ``means`` (K, d), ``factors`` (K, d, d): Cholesky factors of the
            covariances; float64.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        means = codes.means.double().numpy()
        mixture = GaussianMixture(
            n_components(len(means)), covariance_type="full", max_iter=500, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = mixture.fit(means)
        return {
            "weights": torch.from_numpy(fitted.weights_),
            "means": torch.from_numpy(fitted.means_),
            "factors": torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)),
        }

    def choose_settings(self) -> dict[str, Any]:
        """The number of components; a model of an earlier version is fitted now."""
        if self.name not in self.space.fitted:
            self.space.fitted[self.name] = self.fit(self.space.require_codes())
        return {"n_components": len(self.space.fitted[self.name]["weights"])}

    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Draw components, then latents."""
        weights, means, factors = (
            self.space.fitted[self.name][part] for part in ("weights", "means", "factors")
        )
        chosen = torch.multinomial(weights, block, replacement=True, generator=generator)
        noise = torch.randn(block, means.shape[1], 1, dtype=means.dtype, generator=generator)
        return LatentBlock((means[chosen] + (factors[chosen] @ noise)[..., 0]).float())


def n_components(n_codes: int) -> int:
    """Components: 10, as in the papers, or a fifth of the codes where there are fewer than 50."""
    return max(1, min(10, n_codes // 5))
