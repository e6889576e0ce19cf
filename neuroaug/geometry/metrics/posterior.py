"""The metric of a plain VAE: its posterior covariances, interpolated (GEO eq. 7; METHOD 4.3).

`PosteriorEvaluator` is the same metric in the layout of the samplers: chains on the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import (
    positive,
    require_alike,
    require_finite,
    require_floating,
    require_shape,
)
from neuroaug.geometry.metrics.base import MIN_EXPONENT, in_chunks


class _Local(NamedTuple):
    """The diagonal of G at n positions, over ``exp(scale)`` so that nothing under- or overflows."""

    difference: Tensor  # z - mu_i, (n, k, d)
    weights: Tensor  # w_i / exp(scale), (n, k)
    floor: Tensor  # r / exp(scale), (n, 1)
    diagonal: Tensor  # G_j / exp(scale), (n, d)
    log_diagonal: Tensor  # log G_j, (n, d)


def nearest_neighbour_temperature(means: Tensor) -> float:
    """Return rho = max_i min_{j != i} ``|c_i - c_j|`` (GEO, below eq. 7) for means of shape (k, d).

    Examples
    --------
    >>> import torch
    >>> nearest_neighbour_temperature(torch.tensor([[0.0], [1.0], [4.0]]))
    3.0
    """
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
        Posterior means mu_i of the chosen training images.
    variances : Tensor, shape (k, d)
        Posterior variances, the diagonals of Sigma_i.
    temperature : float
        Temperature rho, positive; `nearest_neighbour_temperature` is the paper's rule.
    regularization : float
        Regularization lambda, positive (1e-2 in the paper).
    decay : float
        Decay tau, not negative. With 0 the volume is infinite and the density improper: sample it
        within a radius.

    Raises
    ------
    ValueError
        If shapes or types disagree, or a value is not finite or not positive where it must be.

    Examples
    --------
    One standard normal posterior: G(0) = (1 + lambda) I, and G = lambda I far away.

    >>> import torch
    >>> metric = PosteriorMetric(torch.zeros(1, 2), torch.ones(1, 2), temperature=1.0)
    >>> metric.metric_matrix(torch.zeros(2)).diagonal()
    tensor([1.0100, 1.0100])
    >>> metric.log_density(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    tensor([ 0.0100, -4.6052])
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
        require_alike("means", self.means, "variances", self.variances)
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
        """The means, shape (k, d), under the name that samplers use for where chains start."""
        return self.means

    @property
    def dim(self) -> int:
        """Latent dimension d."""
        return self.means.shape[1]

    @property
    def n_centroids(self) -> int:
        """Number of centroids k."""
        return self.means.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensors that were given."""
        return self.means.dtype

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
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

    @property
    def _elements_each(self) -> int:
        return 2 * self.n_centroids * self.dim

    def _apply(self, function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.dim,):
            raise ValueError(f"z: expected shape (..., {self.dim}), got {tuple(z.shape)}")
        return in_chunks(lambda x: (function(x),), self._elements_each, z)[0]

    def metric_matrix(self, z: Tensor) -> Tensor:
        """G(z) (GEO eq. 7), shape (..., d, d)."""
        return self._apply(lambda x: torch.diag_embed(self._local(x).log_diagonal.exp()), z)

    def cometric_matrix(self, z: Tensor) -> Tensor:
        """G^-1(z), shape (..., d, d)."""
        return self._apply(lambda x: torch.diag_embed((-self._local(x).log_diagonal).exp()), z)

    def log_density(self, z: Tensor) -> Tensor:
        """Unnormalised log-density ``1/2 log det G(z)`` (GEO Alg. 2), shape (...)."""
        return self._apply(lambda x: 0.5 * self._local(x).log_diagonal.sum(-1), z)

    def _pull(self, local: _Local, z: Tensor, probe: Tensor) -> Tensor:
        """Derivative in z of ``1/2 sum_j probe_j G_j(z)`` over exp(scale); probes are (n, d)."""
        precision = 1.0 / self.variances.double()
        coefficient = local.weights * (probe @ precision.T)
        pulled = ((coefficient.unsqueeze(-1) * precision) * local.difference).sum(-2)
        pulled = pulled / self.temperature**2
        return -pulled - self.decay * local.floor * probe.sum(-1, keepdim=True) * z

    def grad_log_density(self, z: Tensor) -> Tensor:
        """Gradient of 1/2 log det G (METHOD 4.3), shape (..., d)."""

        def gradient(x: Tensor) -> Tensor:
            local = self._local(x)
            return self._pull(local, x, 1.0 / local.diagonal)

        return self._apply(gradient, z)

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v^T G(z) v`` for (n, d) velocities and positions, with its derivatives in z and v."""

        def norm(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            local = self._local(x)
            unit = torch.exp(local.log_diagonal - local.diagonal.log())  # exp(scale)
            diagonal = local.log_diagonal.exp()
            in_z = 2.0 * unit[:, :1] * self._pull(local, x, u.square())
            return (diagonal * u.square()).sum(-1), in_z, 2.0 * diagonal * u

        value, in_z, in_v = in_chunks(norm, self._elements_each, z, v)
        return value, in_z, in_v

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> PosteriorEvaluator:
        """Log-density, gradient and geodesic flow for `n_chains` positions at a time."""
        return PosteriorEvaluator(self, n_chains, dtype or self.dtype)


class PosteriorEvaluator:
    """The `Evaluator` of a `PosteriorMetric`, whose G is diagonal.

    Parameters
    ----------
    metric : PosteriorMetric
        The metric.
    n : int
        Positions at a time.
    dtype : torch.dtype
        Precision of positions and results.
    """

    cometric_power = -1

    def __init__(self, metric: PosteriorMetric, n: int, dtype: torch.dtype) -> None:
        means, variances = metric.means.double(), metric.variances.double()
        d = means.shape[1]
        self._d, self._decay = d, metric.decay
        self._centre = means.mean(0).unsqueeze(1)
        centred, precision = means - self._centre.T, 1.0 / variances
        scale = metric.temperature**2
        # Mahalanobis distances with small variances are large: their expansion needs double
        # precision.
        squares = (centred.square() * precision).sum(1, keepdim=True)
        self._to_exponents = torch.cat([-precision, 2.0 * centred * precision, -squares], 1) / scale
        self._features = torch.ones(2 * d + 1, n, dtype=torch.float64, device=means.device)
        self._precision = precision.to(dtype)  # (k, d)
        moments = torch.cat([(centred * precision).T, precision.T], 0) / scale
        self._moments = moments.to(dtype)  # (2d, k)
        self._log_regularization = torch.tensor(
            metric.regularization, dtype=torch.float64, device=means.device
        ).log()
        self._dtype, self._min_exponent = dtype, MIN_EXPONENT[dtype]
        self._log_diagonal = torch.empty(d, n, dtype=torch.float64, device=means.device)

    def _update(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (k, n), floor (1, n), diagonal of G (d, n), all over exp(scale); z centred."""
        d, features = self._d, self._features
        centred = torch.sub(z, self._centre, out=features[d : 2 * d])
        torch.mul(centred, centred, out=features[:d])
        exponents = self._to_exponents @ features
        squares = z.double().square().sum(0, keepdim=True)
        log_floor = self._log_regularization - self._decay * squares
        scale = torch.maximum(exponents.amax(0, keepdim=True), log_floor)
        weights = exponents.sub_(scale).to(self._dtype).clamp_(min=self._min_exponent).exp_()
        floor = (log_floor - scale).exp_().to(self._dtype)
        diagonal = torch.addmm(floor.expand(d, -1), self._precision.T, weights)
        torch.add(diagonal.log(), scale, out=self._log_diagonal)
        return weights, floor, diagonal, centred.to(self._dtype)

    def _pull(
        self, weights: Tensor, floor: Tensor, z: Tensor, centred: Tensor, probe: Tensor
    ) -> Tensor:
        """``1/2 sum_j probe_j dG_j/dz`` over exp(scale)."""
        pulled = self._moments @ weights.mul_(self._precision @ probe)
        result = torch.addcmul(pulled[: self._d], centred, pulled[self._d :], value=-1.0)
        if self._decay:
            result.sub_(self._decay * floor * probe.sum(0, keepdim=True) * z)
        return result

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of 1/2 log det G (METHOD 4.3)."""
        weights, floor, diagonal, centred = self._update(z)
        return self._pull(weights, floor, z, centred, diagonal.reciprocal_())

    def log_density(self) -> Tensor:
        """1/2 log det G where `gradient` was last called."""
        return (0.5 * self._log_diagonal.sum(0)).to(self._dtype)

    def lower(self, z: Tensor, v: Tensor) -> Tensor:
        """G(z) v."""
        self._update(z)
        return self._log_diagonal.exp().to(self._dtype) * v

    def flow(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """``dp/dt = G^-1(p) q``; ``dq_l/dt = 1/2 sum_j (q_j / G_j)^2 dG_j/dp_l``."""
        weights, floor, diagonal, centred = self._update(p)
        velocity = q * torch.exp(-self._log_diagonal).to(self._dtype)
        # velocity^2 dG = (velocity^2 G / diagonal) d(diagonal): exp(scale) cancels against one
        # factor G.
        return velocity, self._pull(weights, floor, p, centred, velocity * q / diagonal)
