"""The learned metric in the layout of the samplers: log-density, gradient and geodesic flow.

The equations are those of `neuroaug.geometry.metrics.functional`; what differs is the layout.
Chains lie on the last axis; symmetric d x d matrices are packed to their p = d(d+1)/2 different
entries; sums over the N centroids are matrix products; nothing is allocated in the loop. A gradient
costs about ``4 N (p + d) + d^3`` floating-point operations per chain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroaug.geometry.metrics import compiled
from neuroaug.geometry.metrics.base import MIN_EXPONENT
from neuroaug.geometry.metrics.functional import MetricTensors

# Beyond this dimension, the library's batched factorisation beats the one unrolled over rows.
MAX_UNROLLED = 32
# Rows of matrix products are padded to a multiple of this.
PADDING = 8
# Largest error of an exponent accepted from single precision; beyond, exponents are computed in
# double.
MAX_EXPONENT_ERROR = 2e-5


class LearnedEvaluator:
    """The `Evaluator` of a learned metric.

    Parameters
    ----------
    tensors : MetricTensors
        The metric, in double precision.
    n : int
        Positions at a time.
    dtype : torch.dtype
        Precision of positions and results.
    """

    cometric_power = 1

    def __init__(self, tensors: MetricTensors, n: int, dtype: torch.dtype) -> None:
        self._space = w = _workspace(tensors, n, dtype)
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
        """``(G^-1(p) q, (1/T^2) sum_i w_i |L_i^T q|^2 (p - c_i))`` (OASIS Alg. 2)."""
        w = self._space
        compiled.update_cometric(w, p)
        velocity = torch.sum(w.cometric * q.unsqueeze(0), 1)
        torch.mul(q[self._row], q[self._column], out=w.probe_used)
        return velocity, compiled.pull(w).neg_()


def _workspace(tensors: MetricTensors, n: int, dtype: torch.dtype) -> compiled.Workspace:
    """Lay out the constants of a metric, and buffers for n chains."""
    centroids, matrices, temperature, regularization = tensors
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
