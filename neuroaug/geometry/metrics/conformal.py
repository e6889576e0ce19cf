"""The conformal metric ``V(z)^2 I``, V = exp(-log_density), of interpolation (THESIS eq. 3.8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroaug.geometry.metrics.base import Evaluator, Metric

N_LINE = 257
# V^2 is held below exp of this: beyond, any path that avoids the place is shorter.
MAX_LOG = 600.0


def line_minimum(metric: Metric, a: Tensor, b: Tensor) -> float:
    """Minimum of log V along the straight line from a to b, shape (d,) each."""
    t = torch.linspace(0, 1, N_LINE, dtype=torch.float64, device=a.device).unsqueeze(1)
    return float(-metric.log_density(torch.lerp(a.unsqueeze(0), b.unsqueeze(0), t).detach()).max())


@dataclass(frozen=True)
class ConformalMetric:
    """``G(z) = exp(-2 (log_density(z) + log_scale)) I``, of another metric's density.

    Parameters
    ----------
    base : LearnedMetric or PosteriorMetric
        Metric that gives the density.
    log_scale : float
        Logarithm of what V is divided by.

    Examples
    --------
    >>> import torch
    >>> from neuroaug.geometry import LearnedMetric
    >>> base = LearnedMetric(torch.zeros(1, 2), torch.eye(2)[None], 1.0, regularization=1.0)
    >>> ConformalMetric(base).metric_matrix(torch.zeros(2)).diagonal()  # G^-1 = 2 I: V^2 = 1 / 4
    tensor([0.2500, 0.2500])
    """

    base: Metric
    log_scale: float = 0.0

    @property
    def dim(self) -> int:
        """Latent dimension d."""
        return self.base.dim

    @property
    def length_scale(self) -> float:
        """Length scale of the base metric over sqrt(d): the density is a product of d factors."""
        return self.base.length_scale / math.sqrt(self.base.dim)

    @property
    def centroids(self) -> Tensor | None:
        """Centroids of the base metric, where it has any."""
        return getattr(self.base, "centroids", None)

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density of the base metric."""
        return self.base.log_density(z)

    def grad_log_density(self, z: Tensor) -> Tensor:
        """Gradient of the base metric's log-density."""
        return self.base.grad_log_density(z)

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> Evaluator:
        """Evaluator of the base metric: samplers see the same density."""
        return self.base.evaluator(n_chains, dtype)

    def _factor(self, z: Tensor) -> Tensor:
        return torch.exp((-2.0 * (self.base.log_density(z) + self.log_scale)).clamp_max(MAX_LOG))

    def metric_matrix(self, z: Tensor) -> Tensor:
        """``V(z)^2 I``, shape (..., d, d)."""
        return self._factor(z)[..., None, None] * torch.eye(
            self.dim, dtype=z.dtype, device=z.device
        )

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``V(z)^2 |v|^2`` for (n, d) velocities and positions, with its derivatives in z and v."""
        factor = self._factor(z)
        value = factor * v.square().sum(-1)
        in_z = -2.0 * value.unsqueeze(-1) * self.base.grad_log_density(z)
        return value, in_z, 2.0 * factor.unsqueeze(-1) * v
