"""Log-density, gradient and geodesic flow of many chains at once, for the samplers.

The equations are those of `metric.py` and `posterior.py`; what differs is the layout. Chains lie on
the last axis, so every elementary operation is one long contiguous loop; symmetric d x d matrices
are packed to their p = d(d+1)/2 different entries; sums over the N centroids are matrix products;
nothing is allocated in the loop. A gradient costs about ``4 N (p + d) + d^3`` floating-point
operations a chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from neuroaug.geometry.metrics import compiled

if TYPE_CHECKING:
    from neuroaug.geometry.metrics.learned import LearnedMetric
    from neuroaug.geometry.metrics.posterior import PosteriorMetric

# Beyond this dimension, the library's batched factorisation beats the one unrolled over rows.
MAX_UNROLLED = 32
# Exponents below this count as it. The weights stay normal numbers (arithmetic on subnormal ones is
# a hundred times slower); what they add, below 1e-33 of a factor, is beyond the precision of any
# sum that they enter.
MIN_EXPONENT = {torch.float32: -78.0, torch.float64: -690.0}
# Rows of matrix products are padded to a multiple of this.
PADDING = 8
# Largest error of an exponent accepted from single precision; beyond, exponents are computed in
# double.
MAX_EXPONENT_ERROR = 2e-5


class Evaluator(Protocol):
    """What the samplers ask of a metric; positions are (d, n), results are overwritten by the next
    call.
    """

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of the log-density at z, shape (d, n)."""
        ...

    def log_density(self) -> Tensor:
        """Log-density where `gradient` was last called, shape (n,)."""
        ...

    @property
    def cometric_power(self) -> int:
        """1 where the density is sqrt(det G^-1), -1 where it is sqrt(det G)."""
        ...

    def lower(self, z: Tensor, v: Tensor) -> Tensor:
        """Momentum G(z) v of a velocity, shape (d, n); `log_density` then answers for z."""
        ...

    def flow(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """``(dH/dq, -dH/dp)`` of H(p, q) = 1/2 q^T G^-1(p) q, each of shape (d, n)."""
        ...


class LearnedEvaluator:
    """`Evaluator` of a `LearnedMetric`."""

    cometric_power = 1

    def __init__(self, metric: LearnedMetric, n: int, dtype: torch.dtype) -> None:
        self._space = w = _workspace(metric, n, dtype)
        d = len(w.z)
        # Beyond some dimension there is nothing to unroll.
        self._elimination = _elimination(w) if d <= MAX_UNROLLED else None
        self._row, self._column = torch.tril_indices(d, d, device=w.z.device)
        self._log_det = torch.empty_like(w.inverse_pivots[0])

    def _invert(self) -> None:
        """G, and the inverse pivots of the factorisation of G^-1."""
        w = self._space
        if self._elimination is not None:
            compiled.eliminate(w, self._elimination)
            return
        factor, failed = torch.linalg.cholesky_ex(w.cometric.permute(2, 0, 1))
        factor = torch.where(failed[:, None, None] > 0, torch.nan, factor)
        w.inverse_pivots.copy_(factor.diagonal(dim1=-2, dim2=-1).square().reciprocal().T)
        w.metric.copy_(torch.cholesky_inverse(factor).permute(1, 2, 0))

    def gradient(self, z: Tensor) -> Tensor:
        """``(1/T^2) sum_i w_i tr(G M_i) (c_i - z)`` (METHOD 2)."""
        w = self._space
        if self._elimination is not None:
            return compiled.gradient(w, self._elimination, z)
        compiled.update_cometric(w, z)
        self._invert()
        torch.index_select(w.flat_metric, 0, w.lower, out=w.probe_used)
        return compiled.pull(w)

    def log_density(self) -> Tensor:
        """``1/2 log det G^-1`` from the pivots; NaN where a pivot is not positive."""
        return torch.sum(self._space.inverse_pivots.log(), 0, out=self._log_det).mul_(-0.5)

    def lower(self, z: Tensor, v: Tensor) -> Tensor:
        """G(z) v, by the factorisation of G^-1(z)."""
        compiled.update_cometric(self._space, z)
        self._invert()
        return torch.sum(self._space.metric * v.unsqueeze(0), 1)

    def flow(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """``(G^-1(p) q, (1/T^2) sum_i w_i |L_i^T q|^2 (p - c_i))`` (OASIS Alg. 1)."""
        w = self._space
        compiled.update_cometric(w, p)
        velocity = torch.sum(w.cometric * q.unsqueeze(0), 1)
        torch.mul(q[self._row], q[self._column], out=w.probe_used)
        return velocity, compiled.pull(w).neg_()


def _workspace(metric: LearnedMetric, n: int, dtype: torch.dtype) -> compiled.Workspace:
    """Lay out the constants of a metric, and room for n chains."""
    centroids, matrices, temperature, regularization = metric.tensors
    centroids, matrices = centroids.detach(), matrices.detach()
    size, d = centroids.shape
    device = centroids.device

    def buffer(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.zeros(*shape, n, dtype=of, device=device)

    # Squared distances are expanded, |z|^2 - 2 z.c + |c|^2, to be one matrix product; centring
    # keeps the terms small, and where the centroids are so many temperatures apart that rounding
    # would show in the exponents, that product alone is done in double precision.
    centre = centroids.mean(0)
    centred = centroids - centre
    squares = centred.square().sum(1, keepdim=True)
    error = 4.0 * float(squares.max()) / temperature**2 * torch.finfo(dtype).eps
    wide = dtype if error <= MAX_EXPONENT_ERROR else torch.float64
    expansion = torch.cat([2.0 * centred, -squares, -torch.ones_like(squares)], 1) / temperature**2
    features = buffer(d + 2, of=wide).fill_(1.0)
    weights = buffer(size)

    # Packed entries (i, j), i >= j; both sides of the products are padded to whole vector
    # registers.
    row, column = torch.tril_indices(d, d, device=device)
    p = len(row)
    padded, moment_rows = -(-p // PADDING) * PADDING, -(-(d + 1) // PADDING) * PADDING
    packed = matrices.new_zeros(size, padded)
    packed[:, :p] = matrices[:, row, column]
    twice = torch.ones_like(packed[0])
    twice[:p][row != column] = 2.0
    moments = matrices.new_zeros(moment_rows, size)
    moments[:d], moments[d] = centred.T, 1.0
    unpack = torch.empty(d, d, dtype=torch.int64, device=device)
    unpack[row, column] = unpack[column, row] = torch.arange(p, device=device)

    probe, pulled = buffer(padded), buffer(moment_rows)
    cometric, inverse = buffer(d, d), buffer(d, d)
    flat = cometric.view(-1, n)
    return compiled.Workspace(
        offset=centre.to(dtype).unsqueeze(1),
        expansion=expansion.to(wide),
        sum_of_matrices=packed.T.contiguous().to(dtype),
        trace_with_matrices=(packed * twice).to(dtype),
        moments=(moments / temperature**2).to(dtype),
        unpack=unpack.reshape(-1),
        lower=row * d + column,
        regularization=float(regularization),
        min_exponent=MIN_EXPONENT[dtype],
        z=buffer(d),
        features=features,
        features_z=features[:d],
        features_norm=features[d + 1],
        squares=buffer(d, of=wide),
        exponents=weights if wide == dtype else buffer(size, of=wide),
        weights=weights,
        traces=buffer(size),
        packed=buffer(padded),
        probe=probe,
        probe_used=probe[:p],
        pulled=pulled,
        pulled_z=pulled[:d],
        pulled_one=pulled[d],
        result=buffer(d),
        cometric=cometric,
        flat_cometric=flat,
        diagonal=flat[:: d + 1],
        metric=inverse,
        flat_metric=inverse.view(-1, n),
        inverse_pivots=buffer(d),
    )


def _elimination(w: compiled.Workspace) -> compiled.Elimination:
    """Views of a work space for each pivot."""
    pivots = range(len(w.z))
    multipliers, scaled = torch.empty_like(w.z), torch.empty_like(w.z)
    rows = [w.cometric[k] for k in pivots]
    below = [w.cometric[k + 1 :] for k in pivots]
    heads = [rows[k][: k + 1] for k in pivots]
    return compiled.Elimination(
        pivot=[rows[k][k] for k in pivots],
        inverse_pivot=[w.inverse_pivots[k] for k in pivots],
        column=[below[k][:, k] for k in pivots],
        multipliers=[multipliers[k + 1 :] for k in pivots],
        multipliers_as_column=[multipliers[k + 1 :].unsqueeze(1) for k in pivots],
        row=[row.unsqueeze(0) for row in rows],
        below=below,
        head=heads,
        scaled=[scaled[: k + 1] for k in pivots],
        head_as_column=[head.unsqueeze(1) for head in heads],
        scaled_as_row=[scaled[: k + 1].unsqueeze(0) for k in pivots],
        corner=[w.metric[: k + 1, : k + 1] for k in pivots],
    )


class PosteriorEvaluator:
    """`Evaluator` of a `PosteriorMetric`, whose G is diagonal."""

    cometric_power = -1

    def __init__(self, metric: PosteriorMetric, n: int, dtype: torch.dtype) -> None:
        means, variances = metric.means.double(), metric.variances.double()
        d = means.shape[1]
        self._d, self._decay, self._regularization = d, metric.decay, metric.regularization
        self._centre = means.mean(0).unsqueeze(1)
        centred, precision = means - self._centre.T, 1.0 / variances
        scale = metric.temperature**2
        # Mahalanobis distances with small variances are large: their expansion needs double
        # precision.
        squares = (centred.square() * precision).sum(1, keepdim=True)
        self._to_exponents = torch.cat([-precision, 2.0 * centred * precision, -squares], 1) / scale
        self._features = torch.ones(2 * d + 1, n, dtype=torch.float64, device=means.device)
        self._precision = precision.to(dtype)  # (k, d)
        self._moments = (torch.cat([(centred * precision).T, precision.T], 0) / scale).to(
            dtype
        )  # (2d, k)
        self._log_regularization = torch.tensor(
            self._regularization, dtype=torch.float64, device=means.device
        ).log()
        self._dtype, self._min_exponent = dtype, MIN_EXPONENT[dtype]
        self._log_diagonal = torch.empty(d, n, dtype=torch.float64, device=means.device)

    def _update(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (k, n), floor (1, n) and diagonal of G (d, n), all over exp(scale), and z
        centred.
        """
        d, features = self._d, self._features
        centred = torch.sub(z, self._centre, out=features[d : 2 * d])
        torch.mul(centred, centred, out=features[:d])
        exponents = self._to_exponents @ features
        log_floor = self._log_regularization - self._decay * z.double().square().sum(
            0, keepdim=True
        )
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
        return (
            result.sub_(self._decay * floor * probe.sum(0, keepdim=True) * z)
            if self._decay
            else result
        )

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of 1/2 log det G (METHOD 4.3)."""
        weights, floor, diagonal, centred = self._update(z)
        return self._pull(weights, floor, z, centred, diagonal.reciprocal_())

    def log_density(self) -> Tensor:
        """1/2 log det G."""
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
