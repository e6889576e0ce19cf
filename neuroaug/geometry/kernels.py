"""Log-density, gradient and geodesic flow of many chains at once, for the samplers.

The equations are those of `metric.py` and `posterior.py`; what differs is the layout. Chains lie on the last
axis, so every elementary operation is one long contiguous loop; symmetric d x d matrices are packed to their
p = d(d+1)/2 different entries; sums over the N centroids are matrix products; nothing is allocated in the loop.
A gradient costs about ``4 N (p + d) + d^3`` floating-point operations a chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from neuroaug.geometry.metric import LearnedMetric
    from neuroaug.geometry.posterior import PosteriorMetric

# Beyond this dimension, the library's batched factorisation beats the one unrolled over rows.
MAX_UNROLLED = 32
# Exponents below this count as it. The weights stay normal numbers (arithmetic on subnormal ones is a hundred
# times slower); what they add, below 1e-33 of a factor, is beyond the precision of any sum that they enter.
MIN_EXPONENT = {torch.float32: -78.0, torch.float64: -690.0}
# Rows of matrix products are padded to a multiple of this.
PADDING = 8
# Largest error of an exponent accepted from single precision; beyond, exponents are computed in double.
MAX_EXPONENT_ERROR = 2e-5


class _Elimination(NamedTuple):
    """Views of a `LearnedEvaluator`'s work space for one pivot of its factorisation."""

    pivot: Tensor
    inverse_pivot: Tensor
    column: Tensor
    multipliers: Tensor
    multipliers_as_column: Tensor
    row: Tensor
    below: Tensor
    head: Tensor
    scaled: Tensor
    head_as_column: Tensor
    scaled_as_row: Tensor
    corner: Tensor


class Evaluator(Protocol):
    """What the samplers ask of a metric; positions are (d, n), results are overwritten by the next call."""

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
        centroids, matrices, temperature, self._regularization = metric.tensors
        centroids, matrices = centroids.detach(), matrices.detach()
        size, d = centroids.shape
        self._d, self._n, self._min_exponent = d, n, MIN_EXPONENT[dtype]
        self._allocate(size, d, n, dtype, centroids.device)

        centre = centroids.mean(0)
        centred = centroids - centre
        self._offset = centre.to(dtype).unsqueeze(1)
        # Squared distances are expanded, |z|^2 - 2 z.c + |c|^2, to be one matrix product; centring keeps the
        # terms small, and where the centroids are so many temperatures apart that rounding would show in the
        # exponents, that product alone is done in double precision.
        squares = centred.square().sum(1, keepdim=True)
        error = 4.0 * float(squares.max()) / temperature**2 * torch.finfo(dtype).eps
        wide = dtype if error <= MAX_EXPONENT_ERROR else torch.float64
        expansion = torch.cat([2.0 * centred, -squares, -torch.ones_like(squares)], 1) / temperature**2
        self._expansion = expansion.to(wide)
        self._features = torch.ones(d + 2, n, dtype=wide, device=centroids.device)
        self._features_z, self._features_norm = self._features[:d], self._features[d + 1]
        self._squares = torch.empty_like(self._features_z)
        self._exponents = self._weights if wide == dtype else torch.empty_like(self._weights, dtype=wide)

        # Packed entries (i, j), i >= j; both sides of the products are padded to whole vector registers.
        row, column = torch.tril_indices(d, d, device=centroids.device)
        p = len(row)
        packed = matrices.new_zeros(size, self._probe.shape[0])
        packed[:, :p] = matrices[:, row, column]
        twice = torch.ones_like(packed[0])
        twice[:p][row != column] = 2.0
        self._sum_of_matrices = packed.T.contiguous().to(dtype)  # (p, N): W -> sum_i w_i M_i
        self._trace_with_matrices = (packed * twice).to(dtype)  # (N, p): S -> tr(S M_i)
        moments = matrices.new_zeros(self._pulled.shape[0], size)
        moments[:d], moments[d] = centred.T, 1.0
        self._moments = (moments / temperature**2).to(dtype)
        self._row, self._column, self._lower = row, column, row * d + column
        unpack = torch.empty(d, d, dtype=torch.int64, device=centroids.device)
        unpack[row, column] = unpack[column, row] = torch.arange(p, device=centroids.device)
        self._unpack = unpack.reshape(-1)
        self._probe_used = self._probe[:p]

    def _allocate(self, size: int, d: int, n: int, dtype: torch.dtype, device: torch.device) -> None:
        """Work space, and views of it made once: taking a slice costs as much as a small operation."""

        def buffer(*shape: int) -> Tensor:
            return torch.zeros(*shape, n, dtype=dtype, device=device)

        rows = -(-(d * (d + 1) // 2) // PADDING) * PADDING
        self._weights, self._traces = buffer(size), buffer(size)
        self._packed, self._probe = buffer(rows), buffer(rows)
        self._z, self._result = buffer(d), buffer(d)
        self._pulled = buffer(-(-(d + 1) // PADDING) * PADDING)
        self._pulled_z, self._pulled_one = self._pulled[:d], self._pulled[d]
        self._log_det = torch.empty(n, dtype=dtype, device=device)
        self._inverse_pivots = buffer(d)
        self._cometric, self._metric = buffer(d, d), buffer(d, d)
        self._flat_cometric, self._flat_metric = self._cometric.view(-1, n), self._metric.view(-1, n)
        self._diagonal = self._flat_cometric[:: d + 1]
        multipliers, scaled = buffer(d), buffer(d)
        self._eliminations = []
        for k in range(d):
            row, below = self._cometric[k], self._cometric[k + 1 :]
            head = row[: k + 1]
            views = _Elimination(
                pivot=row[k],
                inverse_pivot=self._inverse_pivots[k],
                column=below[:, k],
                multipliers=multipliers[k + 1 :],
                multipliers_as_column=multipliers[k + 1 :].unsqueeze(1),
                row=row.unsqueeze(0),
                below=below,
                head=head,
                scaled=scaled[: k + 1],
                head_as_column=head.unsqueeze(1),
                scaled_as_row=scaled[: k + 1].unsqueeze(0),
                corner=self._metric[: k + 1, : k + 1],
            )
            self._eliminations.append(views)

    def _update_cometric(self, z: Tensor) -> None:
        """Weights and G^-1 at z."""
        torch.sub(z, self._offset, out=self._z)
        self._features_z.copy_(self._z)
        torch.mul(self._features_z, self._features_z, out=self._squares)
        torch.sum(self._squares, 0, out=self._features_norm)
        torch.mm(self._expansion, self._features, out=self._exponents)
        if self._exponents is not self._weights:
            self._weights.copy_(self._exponents)
        self._weights.clamp_min_(self._min_exponent).exp_()
        torch.mm(self._sum_of_matrices, self._weights, out=self._packed)
        torch.index_select(self._packed, 0, self._unpack, out=self._flat_cometric)
        self._diagonal.add_(self._regularization)

    def _invert(self) -> None:
        """G, and the inverse pivots D^-1 of G^-1 = L D L^T with unit diagonals in L; overwrites G^-1.

        Eliminating below pivot k subtracts multiples of row k from the rows below; the same is done to the
        identity, in the columns that the elimination has freed, which leaves L^-1. G = L^-T D^-1 L^-1 is
        summed on the way.
        """
        if self._d > MAX_UNROLLED:
            self._invert_batched()
            return
        self._metric.zero_()
        for e in self._eliminations:
            torch.reciprocal(e.pivot, out=e.inverse_pivot)
            torch.mul(e.column, e.inverse_pivot, out=e.multipliers)
            e.column.zero_()
            e.pivot.fill_(1.0)
            e.below.addcmul_(e.multipliers_as_column, e.row, value=-1.0)
            torch.mul(e.head, e.inverse_pivot, out=e.scaled)
            e.corner.addcmul_(e.head_as_column, e.scaled_as_row)

    def _invert_batched(self) -> None:
        factor, failed = torch.linalg.cholesky_ex(self._cometric.permute(2, 0, 1))
        factor = torch.where(failed[:, None, None] > 0, torch.nan, factor)
        self._inverse_pivots.copy_(factor.diagonal(dim1=-2, dim2=-1).square().reciprocal().T)
        self._metric.copy_(torch.cholesky_inverse(factor).permute(1, 2, 0))

    def _pull(self) -> Tensor:
        """``(1/T^2) sum_i w_i tr(S M_i) (c_i - z)`` for the packed probe S; overwrites the weights."""
        torch.mm(self._trace_with_matrices, self._probe, out=self._traces)
        self._weights.mul_(self._traces)
        torch.mm(self._moments, self._weights, out=self._pulled)
        return torch.addcmul(self._pulled_z, self._z, self._pulled_one, value=-1.0, out=self._result)

    def gradient(self, z: Tensor) -> Tensor:
        """``(1/T^2) sum_i w_i tr(G M_i) (c_i - z)`` (METHOD 2)."""
        self._update_cometric(z)
        self._invert()
        torch.index_select(self._flat_metric, 0, self._lower, out=self._probe_used)
        return self._pull()

    def log_density(self) -> Tensor:
        """``1/2 log det G^-1`` from the pivots; NaN where a pivot is not positive."""
        return torch.sum(self._inverse_pivots.log(), 0, out=self._log_det).mul_(-0.5)

    def lower(self, z: Tensor, v: Tensor) -> Tensor:
        """G(z) v, by the factorisation of G^-1(z)."""
        self._update_cometric(z)
        self._invert()
        return torch.sum(self._metric * v.unsqueeze(0), 1)

    def flow(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """``(G^-1(p) q, (1/T^2) sum_i w_i |L_i^T q|^2 (p - c_i))`` (OASIS Alg. 1)."""
        self._update_cometric(p)
        velocity = torch.sum(self._cometric * q.unsqueeze(0), 1)
        torch.mul(q[self._row], q[self._column], out=self._probe_used)
        return velocity, self._pull().neg_()


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
        # Mahalanobis distances with small variances are large: their expansion needs double precision.
        squares = (centred.square() * precision).sum(1, keepdim=True)
        self._to_exponents = torch.cat([-precision, 2.0 * centred * precision, -squares], 1) / scale
        self._features = torch.ones(2 * d + 1, n, dtype=torch.float64, device=means.device)
        self._precision = precision.to(dtype)  # (k, d)
        self._moments = (torch.cat([(centred * precision).T, precision.T], 0) / scale).to(dtype)  # (2d, k)
        self._log_regularization = torch.tensor(self._regularization, dtype=torch.float64, device=means.device).log()
        self._dtype, self._min_exponent = dtype, MIN_EXPONENT[dtype]
        self._log_diagonal = torch.empty(d, n, dtype=torch.float64, device=means.device)

    def _update(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (k, n), floor (1, n) and diagonal of G (d, n), all over exp(scale), and z centred."""
        d, features = self._d, self._features
        centred = torch.sub(z, self._centre, out=features[d : 2 * d])
        torch.mul(centred, centred, out=features[:d])
        exponents = self._to_exponents @ features
        log_floor = self._log_regularization - self._decay * z.double().square().sum(0, keepdim=True)
        scale = torch.maximum(exponents.amax(0, keepdim=True), log_floor)
        weights = exponents.sub_(scale).to(self._dtype).clamp_(min=self._min_exponent).exp_()
        floor = (log_floor - scale).exp_().to(self._dtype)
        diagonal = torch.addmm(floor.expand(d, -1), self._precision.T, weights)
        torch.add(diagonal.log(), scale, out=self._log_diagonal)
        return weights, floor, diagonal, centred.to(self._dtype)

    def _pull(self, weights: Tensor, floor: Tensor, z: Tensor, centred: Tensor, probe: Tensor) -> Tensor:
        """``1/2 sum_j probe_j dG_j/dz`` over exp(scale)."""
        pulled = self._moments @ weights.mul_(self._precision @ probe)
        result = torch.addcmul(pulled[: self._d], centred, pulled[self._d :], value=-1.0)
        return result.sub_(self._decay * floor * probe.sum(0, keepdim=True) * z) if self._decay else result

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
        # velocity^2 dG = (velocity^2 G / diagonal) d(diagonal): exp(scale) cancels against one factor G.
        return velocity, self._pull(weights, floor, p, centred, velocity * q / diagonal)
