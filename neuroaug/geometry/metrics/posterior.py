"""The metric of a plain VAE: its posterior covariances, interpolated (GEO eq. 7; METHOD 4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import (
    positive,
    require_finite,
    require_floating,
    require_shape,
)
from neuroaug.geometry.metrics.learned import MAX_ELEMENTS, in_chunks

if TYPE_CHECKING:
    from neuroaug.geometry.metrics.evaluators import PosteriorEvaluator


class _Local(NamedTuple):
    """The diagonal of G at n positions, divided by ``exp(scale)`` so that nothing under- or
    overflows.
    """

    difference: Tensor  # z - mu_i, (n, k, d)
    weights: Tensor  # w_i / exp(scale), (n, k)
    floor: Tensor  # r / exp(scale), (n, 1)
    diagonal: Tensor  # G_j / exp(scale), (n, d)
    log_diagonal: Tensor  # log G_j, (n, d)


def nearest_neighbour_temperature(means: Tensor) -> float:
    """Return rho = max_i min_{j != i} ``|c_i - c_j|`` (GEO, below eq. 7)."""
    distances = torch.cdist(
        means.double(), means.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    distances.fill_diagonal_(math.inf)
    return float(distances.min(dim=1).values.max())


@dataclass(frozen=True, eq=False)
class PosteriorMetric:
    """``G(z) = sum_i Sigma_i^-1 w_i(z) + lambda exp(-tau |z|^2) I``, diagonal (GEO eq. 7).

    ``w_i(z) = exp(-(z - mu_i)^T Sigma_i^-1 (z - mu_i) / rho^2)``; everything costs O(k d). Sums are
    taken in the log domain, so values hold where every term underflows.

    Parameters
    ----------
    means : Tensor, shape (k, d)
        mu_i, the posterior means of the chosen training images.
    variances : Tensor, shape (k, d)
        The diagonals of Sigma_i.
    temperature : float
        rho; `nearest_neighbour_temperature` is the paper's rule.
    regularization : float
        lambda, positive (1e-2 in the paper).
    decay : float
        tau, not negative. With 0 the volume is infinite and the density improper: sample it within
        a radius.

    Raises
    ------
    ValueError
        If shapes or types disagree, or a value is not finite or not positive where it must be.
    """

    means: Tensor
    variances: Tensor
    temperature: float
    regularization: float = 1e-2
    decay: float = 0.0

    def __post_init__(self) -> None:
        require_floating("means", self.means)
        require_shape("means", self.means, (None, None))
        require_shape("variances", self.variances, tuple(self.means.shape))
        if self.variances.dtype != self.means.dtype or self.variances.device != self.means.device:
            raise ValueError(
                f"means are {self.means.dtype} on {self.means.device}, variances {self.variances.dtype} on "
                f"{self.variances.device}: give both in one type on one device"
            )
        require_finite("means", self.means)
        require_finite("variances", self.variances)
        if not bool((self.variances > 0).all()):
            raise ValueError("variances: expected positive values, found zero or less")
        object.__setattr__(self, "temperature", positive("temperature", self.temperature))
        object.__setattr__(self, "regularization", positive("regularization", self.regularization))
        decay = float(self.decay)
        if not (math.isfinite(decay) and decay >= 0):
            raise ValueError(f"decay: expected zero or a positive number, got {self.decay}")
        object.__setattr__(self, "decay", decay)

    @property
    def centroids(self) -> Tensor:
        """The means, under the name that the samplers use for where chains start, shape (k, d)."""
        return self.means

    @property
    def dim(self) -> int:
        """Latent dimension d."""
        return self.means.shape[1]

    @property
    def n_centroids(self) -> int:
        """Number of centroids, k."""
        return self.means.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensors that were given."""
        return self.means.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.means.device

    @property
    def radius(self) -> float:
        """``2 max_i |mu_i|`` (METHOD 4.3)."""
        return 2.0 * float(self.means.norm(dim=1).max())

    @property
    def length_scale(self) -> float:
        """Distance over which the metric changes: the narrowest kernel's standard deviation."""
        return self.temperature * float(self.variances.min().sqrt()) / math.sqrt(2.0)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> PosteriorMetric:
        """Return the same metric on another device or in another precision."""
        return PosteriorMetric(
            self.means.to(device=device, dtype=dtype),
            self.variances.to(device=device, dtype=dtype),
            self.temperature,
            self.regularization,
            self.decay,
        )

    def _local(self, z: Tensor) -> _Local:
        precision = 1.0 / self.variances.double()
        difference = z.unsqueeze(-2) - self.means.double()
        exponents = -(difference.square() * precision).sum(-1) / self.temperature**2
        log_floor = math.log(self.regularization) - self.decay * z.square().sum(-1, keepdim=True)
        scale = torch.maximum(exponents.amax(-1, keepdim=True), log_floor).detach()
        weights, floor = torch.exp(exponents - scale), torch.exp(log_floor - scale)
        diagonal = weights @ precision + floor
        return _Local(difference, weights, floor, diagonal, scale + diagonal.log())

    def _apply(self, function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.dim,):
            raise ValueError(f"z: expected shape (..., {self.dim}), got {tuple(z.shape)}")
        return in_chunks(function, z, 2 * self.n_centroids * self.dim)

    def metric_matrix(self, z: Tensor) -> Tensor:
        """G(z) (GEO eq. 7), shape (..., d, d)."""
        return self._apply(lambda x: torch.diag_embed(self._local(x).log_diagonal.exp()), z)

    def cometric_matrix(self, z: Tensor) -> Tensor:
        """G^-1(z), shape (..., d, d)."""
        return self._apply(lambda x: torch.diag_embed((-self._local(x).log_diagonal).exp()), z)

    def log_density(self, z: Tensor) -> Tensor:
        """``1/2 log det G(z)``, the unnormalised log-density sampled from (GEO Alg. 2), shape
        (...).
        """
        return self._apply(lambda x: 0.5 * self._local(x).log_diagonal.sum(-1), z)

    def _pull(self, local: _Local, z: Tensor, probe: Tensor) -> Tensor:
        """Derivative in z of ``1/2 sum_j probe_j G_j(z)``, over exp(scale), for probes of shape (n,
        d).
        """
        precision = 1.0 / self.variances.double()
        coefficient = local.weights * (probe @ precision.T)
        pulled = ((coefficient.unsqueeze(-1) * precision) * local.difference).sum(
            -2
        ) / self.temperature**2
        return -pulled - self.decay * local.floor * probe.sum(-1, keepdim=True) * z

    def grad_log_density(self, z: Tensor) -> Tensor:
        """Gradient of 1/2 log det G (METHOD 4.3), shape (..., d)."""

        def gradient(x: Tensor) -> Tensor:
            local = self._local(x)
            return self._pull(local, x, 1.0 / local.diagonal)

        return self._apply(gradient, z)

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v^T G(z) v`` for (n, d) velocities and positions, with its derivatives in z and in v."""
        values, in_z, in_v = [], [], []
        size = max(1, MAX_ELEMENTS // (2 * self.n_centroids * self.dim))
        for x, u in zip(z.double().split(size), v.double().split(size), strict=True):
            local = self._local(x)
            unit = torch.exp(local.log_diagonal - local.diagonal.log())  # exp(scale)
            diagonal = local.log_diagonal.exp()
            values.append((diagonal * u.square()).sum(-1))
            in_z.append(2.0 * unit[:, :1] * self._pull(local, x, u.square()))
            in_v.append(2.0 * diagonal * u)
        return (
            torch.cat(values).to(z.dtype),
            torch.cat(in_z).to(z.dtype),
            torch.cat(in_v).to(z.dtype),
        )

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> PosteriorEvaluator:
        """Log-density, gradient and geodesic flow for `n_chains` positions at once, in the fast
        form.
        """
        from neuroaug.geometry.metrics.evaluators import PosteriorEvaluator

        return PosteriorEvaluator(self, n_chains, dtype or self.dtype)
