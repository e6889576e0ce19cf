"""Generalised leapfrog of the Riemannian Hamiltonian (TPAMI eq. 5 and 13), and its tempering.

H(z, v) = U(z) + 1/2 log((2 pi)^d det G(z)) + 1/2 v^T G^-1(z) v, with U = -log p(x, z). One step of
size eps:

    v'     = v  - eps/2 dH/dz(z,  v')                            implicit in v'
    z_next = z  + eps/2 [G^-1(z) v' + G^-1(z_next) v']           implicit in z_next
    v_next = v' - eps/2 dH/dz(z_next, v')

The gradient of U does not depend on v: it is computed once per position, by the caller's function.
Only the metric's part, closed form, is iterated. All derivatives are partial, so nothing has to be
detached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from neuroaug.geometry.metrics.functional import (
    LocalMetric,
    MetricTensors,
    grad_kinetic_energy,
    kinetic_energy,
    local_metric,
    velocity,
)
from neuroaug.geometry.metrics.functional import cometric as cometric_at

__all__ = [
    "LeapfrogInfo",
    "LeapfrogState",
    "hamiltonian",
    "init",
    "leapfrog_step",
    "tempering_factor",
    "tempering_sqrt_beta",
]


class LeapfrogState(NamedTuple):
    """Position and momentum of B trajectories, with what is known at the position.

    Attributes
    ----------
    z, v : Tensor, shape (B, d)
        Position and momentum (the papers' velocity v).
    grad : Tensor, shape (B, d)
        Gradient of the potential U at z.
    local : LocalMetric
        Metric at z.
    """

    z: Tensor
    v: Tensor
    grad: Tensor
    local: LocalMetric


class LeapfrogInfo(NamedTuple):
    """How well the two implicit equations of a step were solved, one entry per trajectory.

    Attributes
    ----------
    residual : Tensor, shape (B,)
        Larger of the last updates of the two fixed points, relative to 1 + the norm of what is
        solved for.
    converged : Tensor of bool, shape (B,)
        Whether both were contracting (or settled) and finite.
    n_halvings : Tensor of int, shape (B,)
        Number of times the step was halved to get there.
    """

    residual: Tensor
    converged: Tensor
    n_halvings: Tensor


def tempering_sqrt_beta(k: int, n_leapfrog: int, beta_zero_sqrt: float) -> float:
    """``sqrt(beta_k) = 1 / [(1 - 1/sqrt(beta_0)) k^2/K^2 + 1/sqrt(beta_0)]`` (TPAMI Alg. 1).

    Parameters
    ----------
    k : int
        Step, from 0 (gives sqrt(beta_0)) to `n_leapfrog` (gives 1).
    n_leapfrog : int
        Number K of steps.
    beta_zero_sqrt : float
        Square root of the first temperature beta_0, in (0, 1].

    Examples
    --------
    >>> [round(tempering_sqrt_beta(k, 2, 0.5), 3) for k in range(3)]
    [0.5, 0.571, 1.0]
    """
    return 1.0 / ((1.0 - 1.0 / beta_zero_sqrt) * (k / n_leapfrog) ** 2 + 1.0 / beta_zero_sqrt)


def tempering_factor(k: int, n_leapfrog: int, beta_zero_sqrt: float) -> float:
    """``sqrt(beta_{k-1} / beta_k)``, by which v is multiplied after step k = 1..K (TPAMI Alg. 1).

    The product over all K steps is sqrt(beta_0).
    """
    return tempering_sqrt_beta(k - 1, n_leapfrog, beta_zero_sqrt) / tempering_sqrt_beta(
        k, n_leapfrog, beta_zero_sqrt
    )


def init(z: Tensor, v: Tensor, grad: Tensor, tensors: MetricTensors) -> LeapfrogState:
    """State at the start of trajectories; z, v and the gradient of U at z have shape (B, d)."""
    return LeapfrogState(z, v, grad, local_metric(z, tensors))


def hamiltonian(potential: Tensor, state: LeapfrogState) -> Tensor:
    """H(z, v), shape (B,), given U(z), shape (B,)."""
    return potential + kinetic_energy(state.local, state.v)


class _Half(NamedTuple):
    """Solution of the two implicit equations, and the first and last update of each fixed point."""

    v: Tensor
    z: Tensor
    first: Tensor
    last: Tensor


def _relative(update: Tensor, value: Tensor) -> Tensor:
    return update.norm(dim=-1) / (1.0 + value.norm(dim=-1))


def _solve(state: LeapfrogState, tensors: MetricTensors, step: Tensor, n_iterations: int) -> _Half:
    """Iterate the two implicit equations to their fixed points; `step` has shape (B, 1)."""
    z, v, grad, local = state
    half_v, first, last = v, [], []
    for i in range(n_iterations):
        new = v - 0.5 * step * (grad + grad_kinetic_energy(local, tensors, half_v))
        last_v = _relative((new - half_v).detach(), new.detach())
        if i == 0:
            first.append(last_v)
        half_v = new
    last.append(last_v)
    here = velocity(local, half_v)
    new_z = z
    for i in range(n_iterations):
        there = here if i == 0 else (cometric_at(new_z, tensors) @ half_v.unsqueeze(-1)).squeeze(-1)
        new = z + 0.5 * step * (here + there)
        last_z = _relative((new - new_z).detach(), new.detach())
        if i == 0:
            first.append(last_z)
        new_z = new
    last.append(last_z)
    return _Half(half_v, new_z, torch.stack(first), torch.stack(last))


def _settled(half: _Half, n_iterations: int, tolerance: float) -> Tensor:
    """Trajectories whose fixed points contract by at least 1/2 per iteration, or have settled."""
    rate = 0.5 ** (n_iterations - 1)
    small = (half.last <= tolerance) | (half.last <= rate * half.first)
    return (small & torch.isfinite(half.last)).all(0)


def leapfrog_step(
    state: LeapfrogState,
    tensors: MetricTensors,
    grad_potential: Callable[[Tensor], Tensor],
    step_size: float,
    *,
    n_iterations: int = 3,
    tolerance: float = 1e-4,
    max_halvings: int = 10,
) -> tuple[LeapfrogState, LeapfrogInfo]:
    """One step of the generalised leapfrog, its fixed points guarded.

    The first implicit equation is quadratic in v and no contraction where v is large. Trajectories
    whose iterates do not contract take a smaller step instead: halved until they do. One that never
    does (or whose input is not finite) stays where it is. Either way the info says so, and no NaN
    is made.

    Parameters
    ----------
    state : LeapfrogState
        State of the B trajectories (`init`, or the previous step's result).
    tensors : MetricTensors
        Metric, whose tensors autograd may follow.
    grad_potential : callable
        (B, d) positions -> (B, d) gradient of U = -log p(x, z) there. Called once, at the new
        position. What it returns decides whether autograd sees the likelihood's second derivative.
    step_size : float
        Step eps.
    n_iterations : int
        Fixed-point iterations of each implicit equation (the papers' 3).
    tolerance : float
        Relative last update below which a fixed point counts as settled, whatever the rate.
    max_halvings : int
        Times that the step may be halved.

    Returns
    -------
    state : LeapfrogState
        State after the step, before tempering (`tempering_factor`).
    info : LeapfrogInfo
        Residuals, convergence, halvings.

    Examples
    --------
    Far from all centroids G^-1 = I: with U = |z|^2 / 2 this is the ordinary leapfrog.

    >>> import torch
    >>> from neuroaug.geometry import functional, leapfrog
    >>> far = torch.full((1, 1), 1e3)
    >>> tensors = functional.from_factors(far, torch.eye(1)[None], 1.0, 1.0)
    >>> z, v = torch.ones(1, 1), torch.zeros(1, 1)
    >>> start = leapfrog.init(z, v, z, tensors)
    >>> state, info = leapfrog.leapfrog_step(start, tensors, lambda z: z, 0.1)
    >>> state.z, bool(info.converged)
    (tensor([[0.9950]]), True)
    """
    n = len(state.z)
    n_halvings = torch.zeros(n, dtype=torch.int64, device=state.z.device)
    step = torch.full((n, 1), step_size, dtype=state.z.dtype, device=state.z.device)
    half = _solve(state, tensors, step, n_iterations)
    converged = _settled(half, n_iterations, tolerance)
    if not bool(converged.all()):
        step, n_halvings, converged = _shrink(
            state, tensors, step, converged, n_iterations, tolerance, max_halvings
        )
        half = _solve(state, tensors, step, n_iterations)
    stays = ~converged.unsqueeze(-1)
    z = torch.where(stays, state.z, half.z)
    v = torch.where(stays, state.v, half.v)
    local = local_metric(z, tensors)
    grad = grad_potential(z)
    moved = v - 0.5 * step * (grad + grad_kinetic_energy(local, tensors, v))
    v = torch.where(stays, v, moved)
    residual = half.last.amax(0)
    return LeapfrogState(z, v, grad, local), LeapfrogInfo(residual, converged, n_halvings)


@torch.no_grad()
def _shrink(
    state: LeapfrogState,
    tensors: MetricTensors,
    step: Tensor,
    converged: Tensor,
    n_iterations: int,
    tolerance: float,
    max_halvings: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the step of the trajectories that did not converge until they do."""
    step, converged = step.clone(), converged.clone()
    n_halvings = torch.zeros_like(converged, dtype=torch.int64)
    for _ in range(max_halvings):
        bad = ~converged
        step[bad] *= 0.5
        n_halvings[bad] += 1
        part = LeapfrogState(
            state.z[bad], state.v[bad], state.grad[bad], LocalMetric(*(t[bad] for t in state.local))
        )
        converged[bad] = _settled(
            _solve(part, tensors, step[bad], n_iterations), n_iterations, tolerance
        )
        if bool(converged.all()):
            break
    step[~converged] = 0.0
    return step, n_halvings, converged
