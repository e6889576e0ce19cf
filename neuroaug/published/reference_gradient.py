"""The released code's gradient in the sampler, to show what the true one changes.

It computes ``(1/T^2) sum_i w_i G M_i (c_i - z)`` where the derivative of the log-density has ``tr(G M_i)``. Acceptance
keeps the law right; what suffers is how far a chain gets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroaug.geometry.kernels import LearnedEvaluator
from neuroaug.geometry.metric import LearnedMetric


class ReferenceEvaluator(LearnedEvaluator):
    """`LearnedEvaluator` with the released code's force."""

    def __init__(self, metric: LearnedMetric, n: int, dtype: torch.dtype) -> None:
        super().__init__(metric, n, dtype)
        self._tensors = metric.tensors

    def gradient(self, z: Tensor) -> Tensor:
        """The force at z, (d, n); `log_density` then answers for z."""
        super().gradient(z)
        centroids, matrices, temperature, regularization = self._tensors
        away = centroids - z.T.double()[:, None]
        weights = torch.exp(-away.square().sum(-1) / temperature**2)
        cometric = torch.einsum("nk,kij->nij", weights, matrices)
        cometric = cometric + regularization * torch.eye(cometric.shape[-1], dtype=cometric.dtype)
        pulled = torch.einsum("nk,kij,nkj->ni", weights, matrices, away)
        return (torch.linalg.solve(cometric, pulled) / temperature**2).T.to(z.dtype)


class ReferenceGradientMetric(LearnedMetric):
    """A learned metric that is sampled with the released code's force."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> ReferenceGradientMetric:
        """Return the same metric on another device or in another precision."""
        moved = super().to(device, dtype)
        return ReferenceGradientMetric(moved.centroids, moved.factors, moved.temperature, moved.regularization)

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> ReferenceEvaluator:
        """Its evaluator."""
        return ReferenceEvaluator(self, n_chains, dtype or self.dtype)


def with_reference_gradient(metric: LearnedMetric) -> ReferenceGradientMetric:
    """The same metric, sampled with the released code's force."""
    return ReferenceGradientMetric(metric.centroids, metric.factors, metric.temperature, metric.regularization)
