"""The learned metric as pure functions of tensors, differentiable in everything (TPAMI eq. 8).

With ``M_i = L_i L_i^T`` and ``w_i(z) = exp(-|z - c_i|^2 / T^2)``,

    G^-1(z) = sum_i w_i(z) M_i + lambda I.

Training differentiates through these functions (centroids and factors come from networks);
sampling uses the same equations in a faster form (`neuroaug.geometry.metrics.learned_evaluator`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class MetricTensors(NamedTuple):
    """What defines a learned metric.

    Attributes
    ----------
    centroids : Tensor, shape (N, d)
        Centroids c_i, the means of the training images' posteriors.
    matrices : Tensor, shape (N, d, d)
        Matrices M_i = L_i L_i^T.
    temperature : float
        Temperature T.
    regularization : float
        Regularization lambda.
    """

    centroids: Tensor
    matrices: Tensor
    temperature: float
    regularization: float


class LocalMetric(NamedTuple):
    """A learned metric at a batch of B positions.

    Attributes
    ----------
    z : Tensor, shape (B, d)
        Positions.
    weights : Tensor, shape (B, N)
        Kernel weights w_i(z).
    cometric : Tensor, shape (B, d, d)
        Inverse metric G^-1(z).
    metric : Tensor, shape (B, d, d)
        Metric G(z).
    log_det : Tensor, shape (B,)
        Log-determinant log det G(z).
    """

    z: Tensor
    weights: Tensor
    cometric: Tensor
    metric: Tensor
    log_det: Tensor


def from_factors(
    centroids: Tensor, factors: Tensor, temperature: float, regularization: float
) -> MetricTensors:
    """Metric tensors from the metric network's lower-triangular factors L_i, shape (N, d, d).

    Examples
    --------
    >>> import torch
    >>> tensors = from_factors(torch.zeros(1, 2), torch.eye(2)[None], 1.0, 1e-3)
    >>> cometric(torch.zeros(1, 2), tensors)
    tensor([[[1.0010, 0.0000],
             [0.0000, 1.0010]]])
    """
    return MetricTensors(centroids, factors @ factors.mT, temperature, regularization)


def kernel_weights(z: Tensor, centroids: Tensor, temperature: float) -> Tensor:
    """Weights ``w_i(z) = exp(-|z - c_i|^2 / T^2)``, shape (B, N), at positions of shape (B, d).

    Distances are sums of squared differences: the expanded form ``|z|^2 - 2 z.c + |c|^2`` loses
    digits when the centroids are many temperatures apart.
    """
    difference = z.unsqueeze(-2) - centroids
    return torch.exp(-difference.square().sum(-1) / temperature**2)


def cometric(z: Tensor, tensors: MetricTensors, weights: Tensor | None = None) -> Tensor:
    """G^-1(z) (TPAMI eq. 8), shape (B, d, d), for positions of shape (B, d)."""
    centroids, matrices, temperature, regularization = tensors
    if weights is None:
        weights = kernel_weights(z, centroids, temperature)
    d = z.shape[-1]
    identity = torch.eye(d, dtype=z.dtype, device=z.device)
    return (weights @ matrices.reshape(-1, d * d)).reshape(-1, d, d) + regularization * identity


def local_metric(z: Tensor, tensors: MetricTensors) -> LocalMetric:
    """The metric at positions of shape (B, d), from one Cholesky factorisation.

    ``log det G = -2 sum log diag`` of the factor of G^-1: no determinant, no clamp.
    A matrix that is not positive definite in the precision at hand gives NaN, not an exception.

    Examples
    --------
    >>> import torch
    >>> tensors = from_factors(torch.zeros(1, 2), torch.eye(2)[None], 1.0, 1.0)
    >>> local_metric(torch.zeros(1, 2), tensors).log_det  # G^-1 = 2 I: log det G = -2 log 2
    tensor([-1.3863])
    """
    weights = kernel_weights(z, tensors.centroids, tensors.temperature)
    inverse = cometric(z, tensors, weights)
    factor, failed = torch.linalg.cholesky_ex(inverse)
    factor = torch.where(failed[:, None, None] > 0, torch.nan, factor)
    identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    half = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    log_det = -2.0 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
    return LocalMetric(z, weights, inverse, half.mT @ half, log_det)


def pull(local: LocalMetric, tensors: MetricTensors, probe: Tensor) -> Tensor:
    """``(1/T^2) sum_i w_i tr(S M_i) (z - c_i)`` for symmetric probes S, shape (B, d, d).

    Since ``dG^-1/dz = -(2/T^2) sum_i w_i M_i (z - c_i)``, this is ``-1/2 tr(S dG^-1/dz)``.
    """
    d = local.z.shape[-1]
    coefficient = local.weights * (probe.reshape(-1, d * d) @ tensors.matrices.reshape(-1, d * d).T)
    pulled = coefficient.sum(-1, keepdim=True) * local.z - coefficient @ tensors.centroids
    return pulled / tensors.temperature**2


def grad_log_density(local: LocalMetric, tensors: MetricTensors) -> Tensor:
    """Gradient of 1/2 log det G^-1 (METHOD 2), shape (B, d)."""
    return -pull(local, tensors, local.metric)


def kinetic_energy(local: LocalMetric, v: Tensor) -> Tensor:
    """``-log N(v; 0, G(z)) = 1/2 log((2 pi)^d det G(z)) + 1/2 v^T G^-1(z) v``, shape (B,)."""
    d = v.shape[-1]
    quadratic = (v * velocity(local, v)).sum(-1)
    return 0.5 * (d * math.log(2.0 * math.pi) + local.log_det + quadratic)


def velocity(local: LocalMetric, v: Tensor) -> Tensor:
    """dH/dv = G^-1(z) v (THESIS eq. 1.4), shape (B, d)."""
    return (local.cometric @ v.unsqueeze(-1)).squeeze(-1)


def grad_kinetic_energy(local: LocalMetric, tensors: MetricTensors, v: Tensor) -> Tensor:
    """Partial derivative of `kinetic_energy` in z at fixed v (THESIS eq. 1.4), shape (B, d).

    ``(1/T^2) sum_i w_i [tr(G M_i) - |L_i^T v|^2] (z - c_i)``.
    """
    return pull(local, tensors, local.metric - v.unsqueeze(-1) * v.unsqueeze(-2))
