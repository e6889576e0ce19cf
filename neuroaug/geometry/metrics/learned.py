"""The metric that an RHVAE learns on its latent space (TPAMI eq. 8; METHOD 2), as a frozen object.

`LearnedMetric` answers in double precision internally whatever the precision of its input, from
distances computed by differences, so its values hold far from the data too. The samplers use the
same equations in the fast form of `neuroaug.geometry.metrics.evaluators`, which
`LearnedMetric.evaluator` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import (
    positive,
    require_finite,
    require_floating,
    require_shape,
)
from neuroaug.geometry.metrics import functional
from neuroaug.geometry.metrics.functional import MetricTensors

if TYPE_CHECKING:
    from neuroaug.geometry.metrics.evaluators import LearnedEvaluator

# Positions are taken so many at a time that no temporary has more elements than this (128 MB of
# doubles).
MAX_ELEMENTS = 1 << 24


def in_chunks(function: Callable[[Tensor], Tensor], z: Tensor, elements_each: int) -> Tensor:
    """Apply `function`, (n, d) -> (n, ...), to positions of shape (..., d) with bounded memory, in
    double precision.
    """
    flat = z.reshape(-1, z.shape[-1]).to(torch.float64)
    size = max(1, MAX_ELEMENTS // max(1, elements_each))
    parts = [function(part) for part in flat.split(size)] if len(flat) else [function(flat)]
    result = torch.cat(parts).to(z.dtype)
    return result.reshape((*z.shape[:-1], *result.shape[1:]))


@dataclass(frozen=True, eq=False)
class LearnedMetric:
    """``G^-1(z) = sum_i L_i L_i^T exp(-|z - c_i|^2 / T^2) + lambda I`` (TPAMI eq. 8).

    Every method takes positions of shape (..., d) and is differentiable by autograd, though none
    needs it.

    Parameters
    ----------
    centroids : Tensor, shape (N, d)
        c_i, the posterior means of the training images.
    factors : Tensor, shape (N, d, d)
        L_i, lower triangular.
    temperature : float
        T, positive.
    regularization : float
        lambda, positive: far from the data G^-1 = lambda I exactly, and log det G^-1 = d log
        lambda.

    Raises
    ------
    ValueError
        If shapes or types disagree, a value is not finite, a factor is not lower triangular, or T
        or lambda is not positive.

    Examples
    --------
    >>> metric = LearnedMetric(torch.zeros(1, 2), torch.eye(2)[None], temperature=1.0, regularization=1e-3)
    >>> metric.cometric_matrix(torch.zeros(2)).diagonal()
    tensor([1.0010, 1.0010])
    """

    centroids: Tensor
    factors: Tensor
    temperature: float
    regularization: float
    _matrices: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        require_floating("centroids", self.centroids)
        require_shape("centroids", self.centroids, (None, None))
        n, d = self.centroids.shape
        require_shape("factors", self.factors, (n, d, d))
        if (
            self.factors.dtype != self.centroids.dtype
            or self.factors.device != self.centroids.device
        ):
            raise ValueError(
                f"centroids are {self.centroids.dtype} on {self.centroids.device}, factors {self.factors.dtype} on "
                f"{self.factors.device}: give both in one type on one device"
            )
        require_finite("centroids", self.centroids)
        require_finite("factors", self.factors)
        if bool(self.factors.detach().triu(1).any()):
            raise ValueError(
                "factors: expected lower triangular matrices, found non-zero entries above a diagonal"
            )
        object.__setattr__(self, "temperature", positive("temperature", self.temperature))
        object.__setattr__(self, "regularization", positive("regularization", self.regularization))
        # The products are kept in double precision, unless autograd has to see how they were made
        # each time.
        if not (self.factors.requires_grad or self.centroids.requires_grad):
            wide = self.factors.to(torch.float64)
            object.__setattr__(self, "_matrices", wide @ wide.mT)

    @property
    def dim(self) -> int:
        """Latent dimension d."""
        return self.centroids.shape[1]

    @property
    def n_centroids(self) -> int:
        """N."""
        return self.centroids.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensors that were given."""
        return self.centroids.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.centroids.device

    @property
    def radius(self) -> float:
        """``2 max_i |c_i|``, the radius of the compact set S that METHOD 2 suggests."""
        return 2.0 * float(self.centroids.detach().norm(dim=1).max())

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> LearnedMetric:
        """Return the same metric on another device or in another precision."""
        return LearnedMetric(
            self.centroids.to(device=device, dtype=dtype),
            self.factors.to(device=device, dtype=dtype),
            self.temperature,
            self.regularization,
        )

    @property
    def tensors(self) -> MetricTensors:
        """Centroids and matrices M_i = L_i L_i^T in double precision, for
        `neuroaug.geometry.metrics.functional`.
        """
        wide = self.factors.to(torch.float64) if self._matrices is None else None
        matrices = self._matrices if wide is None else wide @ wide.mT
        assert matrices is not None
        return MetricTensors(
            self.centroids.to(torch.float64), matrices, self.temperature, self.regularization
        )

    def _apply(self, function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        d = self.dim
        if z.shape[-1:] != (d,):
            raise ValueError(f"z: expected shape (..., {d}), got {tuple(z.shape)}")
        return in_chunks(function, z, max(self.n_centroids * d, 4 * d * d))

    def cometric_matrix(self, z: Tensor) -> Tensor:
        """G^-1(z) (TPAMI eq. 8), shape (..., d, d)."""
        tensors = self.tensors
        return self._apply(lambda x: functional.cometric(x, tensors), z)

    def metric_matrix(self, z: Tensor) -> Tensor:
        """G(z), shape (..., d, d), by Cholesky factorisation of G^-1(z)."""
        tensors = self.tensors
        return self._apply(lambda x: functional.local_metric(x, tensors).metric, z)

    def log_density(self, z: Tensor) -> Tensor:
        """``1/2 log det G^-1(z)``, the unnormalised log-density sampled from (TPAMI eq. 9), shape
        (...).
        """
        tensors = self.tensors
        return self._apply(lambda x: -0.5 * functional.local_metric(x, tensors).log_det, z)

    def grad_log_density(self, z: Tensor) -> Tensor:
        """``-(1/T^2) sum_i w_i tr(G M_i) (z - c_i)`` (METHOD 2), shape (..., d)."""
        tensors = self.tensors

        def gradient(x: Tensor) -> Tensor:
            return functional.grad_log_density(functional.local_metric(x, tensors), tensors)

        return self._apply(gradient, z)

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v^T G(z) v`` for (n, d) velocities and positions, with its derivatives in z and in v.

        With q = G(z) v: the derivative in z is ``(2/T^2) sum_i w_i |L_i^T q|^2 (z - c_i)``, in v it
        is ``2 q``.
        """
        tensors = self.tensors
        wide_z, wide_v = z.to(torch.float64), v.to(torch.float64)
        values, in_z, in_v = [], [], []
        size = max(1, MAX_ELEMENTS // max(self.n_centroids * self.dim, 4 * self.dim**2))
        for part_z, part_v in zip(wide_z.split(size), wide_v.split(size), strict=True):
            local = functional.local_metric(part_z, tensors)
            q = (local.metric @ part_v.unsqueeze(-1)).squeeze(-1)
            values.append((q * part_v).sum(-1))
            in_z.append(2.0 * functional.pull(local, tensors, q.unsqueeze(-1) * q.unsqueeze(-2)))
            in_v.append(2.0 * q)
        return (
            torch.cat(values).to(z.dtype),
            torch.cat(in_z).to(z.dtype),
            torch.cat(in_v).to(z.dtype),
        )

    @property
    def length_scale(self) -> float:
        """Distance over which the metric changes: the kernels' standard deviation, ``T / sqrt(2)``."""
        return self.temperature / math.sqrt(2.0)

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> LearnedEvaluator:
        """Log-density, gradient and geodesic flow for `n_chains` positions at once, in the fast
        form.
        """
        from neuroaug.geometry.metrics.evaluators import LearnedEvaluator

        return LearnedEvaluator(self, n_chains, dtype or self.dtype)
