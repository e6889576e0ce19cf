"""The released code's gradient in the sampler, to show what the true one changes.

It computes ``(1/T^2) sum_i w_i G M_i (c_i - z)`` where the derivative of the log-density has ``tr(G
M_i)``. Acceptance keeps the law right; what suffers is how far a chain gets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroaug.geometry.metrics.functional import MetricTensors
from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.geometry.metrics.learned_evaluator import LearnedEvaluator


class ReferenceEvaluator(LearnedEvaluator):
    """`LearnedEvaluator` with the released code's force."""

    def __init__(self, tensors: MetricTensors, n: int, dtype: torch.dtype) -> None:
        super().__init__(tensors, n, dtype)
        self._tensors = tensors

    def gradient(self, z: Tensor) -> Tensor:
        """The force at z, (d, n); `log_density` then answers for z."""
        super().gradient(z)
        centroids, matrices, temperature, regularization = self._tensors
        points = z.T.double()
        weights = torch.exp(-(centroids - points[:, None]).square().sum(-1) / temperature**2)
        summed = (weights @ matrices.flatten(1)).unflatten(1, matrices.shape[1:])
        # sum_i w_i M_i (c_i - z), without a tensor of all chains times all centroids
        pulled = weights @ torch.einsum("kij,kj->ki", matrices, centroids)
        pulled -= torch.einsum("nij,nj->ni", summed, points)
        cometric = summed + regularization * torch.eye(summed.shape[-1], dtype=summed.dtype)
        return (torch.linalg.solve(cometric, pulled) / temperature**2).T.to(z.dtype)


class ReferenceGradientMetric(LearnedMetric):
    """A learned metric that is sampled with the released code's force."""

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ReferenceGradientMetric:
        """Return the same metric on another device or in another precision."""
        return with_reference_gradient(super().to(device, dtype))

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> ReferenceEvaluator:
        """Evaluator of `n_chains` chains with the released code's force."""
        return ReferenceEvaluator(self.tensors, n_chains, dtype or self.dtype)


def with_reference_gradient(metric: LearnedMetric) -> ReferenceGradientMetric:
    """The same metric, sampled with the released code's force."""
    return ReferenceGradientMetric(
        metric.centroids, metric.factors, metric.temperature, metric.regularization
    )
