"""The learned metric's gradient, compiled, as `LearnedEvaluator` needs it in every leapfrog step.

TorchScript is used for one reason. A gradient is a hundred operations of a few microseconds each,
and the interpreter takes and releases its lock at every one of them: two threads of chains then
spend more time handing the lock over than computing. Compiled code releases it once per gradient.

A work space holds the tensors and every view that is needed, made once: taking a slice costs as
much as a small operation. Chains lie on the last axis.
"""
# No "from __future__ import annotations" here: TorchScript reads the annotations of the named tuple
# as objects.

from typing import NamedTuple

import torch
from torch import Tensor


class Elimination(NamedTuple):
    """Views for the factorisation of G^-1; each list has one entry per pivot k = 0..d-1."""

    pivot: list[Tensor]  # (n,) G^-1[k, k]
    inverse_pivot: list[Tensor]  # (n,)
    column: list[Tensor]  # (d-1-k, n) below the pivot
    multipliers: list[Tensor]  # (d-1-k, n)
    multipliers_as_column: list[Tensor]  # (d-1-k, 1, n)
    row: list[Tensor]  # (1, d, n)
    below: list[Tensor]  # (d-1-k, d, n)
    head: list[Tensor]  # (k+1, n) of the row
    scaled: list[Tensor]  # (k+1, n)
    head_as_column: list[Tensor]  # (k+1, 1, n)
    scaled_as_row: list[Tensor]  # (1, k+1, n)
    corner: list[Tensor]  # (k+1, k+1, n) of G


class Workspace(NamedTuple):
    """Constants of a metric of N centroids in dimension d, and buffers for n chains.

    P is p = d(d+1)/2, padded.
    """

    offset: Tensor  # (d, 1) mean of the centroids
    expansion: Tensor  # (N, d + 2) features -> exponents
    sum_of_matrices: Tensor  # (P, N) w -> sum_i w_i M_i, packed
    trace_with_matrices: Tensor  # (N, P) packed S -> tr(S M_i)
    moments: Tensor  # (>= d + 1, N) w -> sum_i w_i (c_i, 1) / T^2
    unpack: Tensor  # (d d,) packed -> square
    lower: Tensor  # (p,) square -> packed
    regularization: float
    min_exponent: float
    z: Tensor  # (d, n) centred
    features: Tensor  # (d + 2, n) = (z, 1, |z|^2)
    features_z: Tensor
    features_norm: Tensor
    squares: Tensor  # (d, n)
    exponents: Tensor  # (N, n); the weights themselves where no more precision is needed
    weights: Tensor  # (N, n)
    traces: Tensor  # (N, n)
    packed: Tensor  # (P, n)
    probe: Tensor  # (P, n)
    probe_used: Tensor  # (p, n) of it
    pulled: Tensor  # (>= d + 1, n)
    pulled_z: Tensor
    pulled_one: Tensor
    result: Tensor  # (d, n)
    cometric: Tensor  # (d, d, n)
    flat_cometric: Tensor  # (d d, n)
    diagonal: Tensor  # (d, n) of it
    metric: Tensor  # (d, d, n)
    flat_metric: Tensor
    inverse_pivots: Tensor  # (d, n)


@torch.jit.script
def update_cometric(w: Workspace, z: Tensor) -> None:
    """Weights and G^-1 at z."""
    torch.sub(z, w.offset, out=w.z)
    w.features_z.copy_(w.z)
    torch.mul(w.features_z, w.features_z, out=w.squares)
    torch.sum(w.squares, dim=[0], out=w.features_norm)
    torch.mm(w.expansion, w.features, out=w.exponents)
    if w.exponents.dtype != w.weights.dtype:
        w.weights.copy_(w.exponents)
    w.weights.clamp_min_(w.min_exponent).exp_()
    torch.mm(w.sum_of_matrices, w.weights, out=w.packed)
    torch.index_select(w.packed, 0, w.unpack, out=w.flat_cometric)
    w.diagonal.add_(w.regularization)


@torch.jit.script
def eliminate(w: Workspace, e: Elimination) -> None:
    """G, and the inverse pivots D^-1 of G^-1 = L D L^T with unit diagonals in L; overwrites G^-1.

    Eliminating below pivot k subtracts multiples of row k from the rows below; the same is done to
    the identity, in the columns that the elimination has freed, which leaves L^-1. G = L^-T D^-1
    L^-1 is summed on the way.
    """
    w.metric.zero_()
    for k in range(len(e.pivot)):
        torch.reciprocal(e.pivot[k], out=e.inverse_pivot[k])
        torch.mul(e.column[k], e.inverse_pivot[k], out=e.multipliers[k])
        e.column[k].zero_()
        e.pivot[k].fill_(1.0)
        e.below[k].addcmul_(e.multipliers_as_column[k], e.row[k], value=-1.0)
        torch.mul(e.head[k], e.inverse_pivot[k], out=e.scaled[k])
        e.corner[k].addcmul_(e.head_as_column[k], e.scaled_as_row[k])


@torch.jit.script
def pull(w: Workspace) -> Tensor:
    """``(1/T^2) sum_i w_i tr(S M_i) (c_i - z)`` for the packed probe S; overwrites the weights."""
    torch.mm(w.trace_with_matrices, w.probe, out=w.traces)
    w.weights.mul_(w.traces)
    torch.mm(w.moments, w.weights, out=w.pulled)
    return torch.addcmul(w.pulled_z, w.z, w.pulled_one, value=-1.0, out=w.result)


@torch.jit.script
def gradient(w: Workspace, e: Elimination, z: Tensor) -> Tensor:
    """``(1/T^2) sum_i w_i tr(G M_i) (c_i - z)`` (METHOD 2), shape (d, n)."""
    update_cometric(w, z)
    eliminate(w, e)
    torch.index_select(w.flat_metric, 0, w.lower, out=w.probe_used)
    return pull(w)
