"""The metric that an RHVAE learns on its latent space (TPAMI eq. 8; METHOD 2), as a frozen object.

`LearnedMetric` computes in double precision whatever the precision of its input, from distances
computed by differences, so its values hold far from the data too. The samplers use the same
equations in the fast form that `LearnedMetric.evaluator` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import (
    positive,
    require_alike,
    require_finite,
    require_floating,
    require_shape,
)
from neuroaug.geometry.metrics import functional
from neuroaug.geometry.metrics.base import in_chunks
from neuroaug.geometry.metrics.functional import MetricTensors
from neuroaug.geometry.metrics.learned_evaluator import LearnedEvaluator


@dataclass(frozen=True, eq=False)
class LearnedMetric:
    """``G^-1(z) = sum_i L_i L_i^T exp(-|z - c_i|^2 / T^2) + lambda I`` (TPAMI eq. 8).

    Every method takes positions of shape (..., d) and is differentiable by autograd, though none
    needs it.

    Parameters
    ----------
    centroids : Tensor, shape (N, d)
        Centroids c_i, the posterior means of the training images.
    factors : Tensor, shape (N, d, d)
        Factors L_i, lower triangular.
    temperature : float
        Temperature T, positive, in the units of the latent space.
    regularization : float
        Regularization lambda, positive: far from the data G^-1 = lambda I exactly, and
        log det G^-1 = d log lambda.

    Raises
    ------
    ValueError
        If shapes or types disagree, a value is not finite, a factor is not lower triangular, or T
        or lambda is not positive.

    Examples
    --------
    One centroid at 0 with the factor I: G^-1(0) = (1 + lambda) I, and lambda I far away.

    >>> import torch
    >>> metric = LearnedMetric(torch.zeros(1, 2), torch.eye(2)[None], 1.0, regularization=1e-3)
    >>> metric.cometric_matrix(torch.zeros(2)).diagonal()
    tensor([1.0010, 1.0010])
    >>> metric.log_density(torch.full((2,), 1e3))
    tensor(-6.9078)
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
        require_alike("centroids", self.centroids, "factors", self.factors)
        require_finite("centroids", self.centroids)
        require_finite("factors", self.factors)
        if bool(self.factors.detach().triu(1).any()):
            raise ValueError(
                "factors: expected lower triangular matrices, found non-zero entries above a "
                "diagonal"
            )
        object.__setattr__(self, "temperature", positive("temperature", self.temperature))
        object.__setattr__(self, "regularization", positive("regularization", self.regularization))
        # The products are kept in double precision, unless autograd has to see how they were made
        # each time.
        if not (self.factors.requires_grad or self.centroids.requires_grad):
            object.__setattr__(self, "_matrices", self._products())

    def _products(self) -> Tensor:
        wide = self.factors.to(torch.float64)
        return wide @ wide.mT

    @property
    def dim(self) -> int:
        """Latent dimension d."""
        return self.centroids.shape[1]

    @property
    def n_centroids(self) -> int:
        """Number of centroids N."""
        return self.centroids.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensors that were given."""
        return self.centroids.dtype

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.centroids.device

    @property
    def radius(self) -> float:
        """``2 max_i |c_i|``, the radius of the compact set S that METHOD 2 suggests."""
        return 2.0 * float(self.centroids.detach().norm(dim=1).max())

    @property
    def length_scale(self) -> float:
        """Distance over which the metric changes: the kernels' standard deviation T / sqrt(2)."""
        return self.temperature / math.sqrt(2.0)

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
        """Centroids and matrices M_i in double precision, for the functions of `functional`."""
        matrices = self._products() if self._matrices is None else self._matrices
        centroids = self.centroids.to(torch.float64)
        return MetricTensors(centroids, matrices, self.temperature, self.regularization)

    @property
    def _elements_each(self) -> int:
        return max(self.n_centroids * self.dim, 4 * self.dim**2)

    def _apply(self, function: Callable[[Tensor, MetricTensors], Tensor], z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.dim,):
            raise ValueError(f"z: expected shape (..., {self.dim}), got {tuple(z.shape)}")
        tensors = self.tensors
        return in_chunks(lambda x: (function(x, tensors),), self._elements_each, z)[0]

    def cometric_matrix(self, z: Tensor) -> Tensor:
        """G^-1(z) (TPAMI eq. 8), shape (..., d, d)."""
        return self._apply(functional.cometric, z)

    def metric_matrix(self, z: Tensor) -> Tensor:
        """G(z), shape (..., d, d), by Cholesky factorisation of G^-1(z)."""
        return self._apply(lambda x, tensors: functional.local_metric(x, tensors).metric, z)

    def log_density(self, z: Tensor) -> Tensor:
        """Unnormalised log-density ``1/2 log det G^-1(z)`` (TPAMI eq. 9), shape (...)."""
        return self._apply(lambda x, tensors: -0.5 * functional.local_metric(x, tensors).log_det, z)

    def grad_log_density(self, z: Tensor) -> Tensor:
        """``-(1/T^2) sum_i w_i tr(G M_i) (z - c_i)`` (METHOD 2), shape (..., d)."""
        return self._apply(
            lambda x, tensors: functional.grad_log_density(
                functional.local_metric(x, tensors), tensors
            ),
            z,
        )

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v^T G(z) v`` for (n, d) velocities and positions, with its derivatives in z and in v.

        With q = G(z) v: the derivative in z is ``(2/T^2) sum_i w_i |L_i^T q|^2 (z - c_i)``, in v it
        is ``2 q``.
        """
        tensors = self.tensors

        def norm(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            local = functional.local_metric(x, tensors)
            q = (local.metric @ u.unsqueeze(-1)).squeeze(-1)
            in_z = 2.0 * functional.pull(local, tensors, q.unsqueeze(-1) * q.unsqueeze(-2))
            return (q * u).sum(-1), in_z, 2.0 * q

        value, in_z, in_v = in_chunks(norm, self._elements_each, z, v)
        return value, in_z, in_v

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> LearnedEvaluator:
        """Log-density, gradient and geodesic flow for `n_chains` positions at a time."""
        return LearnedEvaluator(self.tensors, n_chains, dtype or self.dtype)
