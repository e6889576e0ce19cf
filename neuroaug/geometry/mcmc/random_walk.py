"""The Riemannian random walk (OASIS Alg. 2, 3; THESIS 2.3).

A proposal is ``z' = Exp_z(v)``, v ~ N(0, scale^2 I) a velocity; OASIS accepts it with probability

    min(1, exp(log_density(z') - log_density(z))).

As printed, this ratio lacks the densities of the proposal and of the way back. OASIS remarks that
with a small scale the walk then samples from the density; in general it does not, however small the
scale. The geodesic is ``z + v - 1/2 Gamma(v, v) + ...``: its mean drifts by a term of order
scale^2, the order of the drift that the acceptance adds, so the law stays away from the density as
the scale goes to 0.

`corrected=True` adds the Hastings term. The geodesic flow is symplectic, so that the Jacobian of
Exp_z, taken in the momentum q = G(z) v, equals the one of the way back and cancels. What is left,
with v' the velocity at the end of the geodesic, is

    log det G^-1(z') - log det G^-1(z) + (|v|^2 - |v'|^2) / (2 scale^2),

exact up to the integrator's error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroaug.geometry.geodesic import midpoint_flow
from neuroaug.geometry.mcmc.chains import (
    ChainInfo,
    ChunkResult,
    Metric,
    Proposal,
    check_arguments,
    metropolis,
    normal,
    run_in_chunks,
)
from neuroaug.geometry.metrics.evaluators import Evaluator

GEODESIC_STEPS = 20


def sample(
    metric: Metric,
    initial: Tensor,
    *,
    n_steps: int,
    scale: float,
    generator: torch.Generator,
    radius: float | None = None,
    n_geodesic_steps: int = GEODESIC_STEPS,
    corrected: bool = False,
    trace: bool = False,
    n_workers: int | None = None,
) -> tuple[Tensor, ChainInfo]:
    """Run B independent walks and return where they end.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Gives the geodesics and the density.
    initial : Tensor, shape (B, d)
        Where the walks start; its type is the precision of the run.
    n_steps : int
        Proposals a walk (OASIS: 200).
    scale : float
        Standard deviation of the velocities; Sigma = scale^2 I.
    generator : torch.Generator
        Source of all randomness.
    radius : float, optional
        Of the ball S around 0; a proposal outside is rejected.
    n_geodesic_steps : int
        Runge-Kutta steps of each exponential map.
    corrected : bool
        Add the Hastings term: the walk then follows the density. False: as printed.
    trace : bool
        Keep every position and log-density in the info.
    n_workers : int, optional
        Threads over which chunks of walks are spread. No draw depends on it.

    Returns
    -------
    samples : Tensor, shape (B, d)
        Last positions.
    info : ChainInfo
        Acceptance, divergences, displacement.

    Raises
    ------
    ValueError
        If `initial` has another dimension than the metric, or a setting is not positive.
    """
    check_arguments(
        metric, initial, radius, n_steps=n_steps, scale=scale, n_geodesic_steps=n_geodesic_steps
    )

    def advance(z: Tensor, own_generator: torch.Generator) -> ChunkResult:
        evaluator = metric.evaluator(z.shape[1], z.dtype)
        transition = _WalkTransition(
            evaluator, z, scale, n_geodesic_steps, corrected, own_generator
        )
        return metropolis(transition, z, n_steps, own_generator, radius, trace)

    return run_in_chunks(initial, n_steps, generator, advance, n_workers)


class _WalkTransition:
    """Proposals of one chunk of walks: the ends of geodesics."""

    def __init__(
        self,
        evaluator: Evaluator,
        z: Tensor,
        scale: float,
        n_geodesic_steps: int,
        corrected: bool,
        generator: torch.Generator,
    ) -> None:
        self._evaluator, self._scale, self._n_geodesic_steps = evaluator, scale, n_geodesic_steps
        self._corrected, self._generator = corrected, generator
        evaluator.gradient(z)
        self.log_density = evaluator.log_density().clone()

    def propose(self, z: Tensor) -> Proposal:
        """Draw a velocity, and follow its geodesic."""
        evaluator = self._evaluator
        v = normal(tuple(z.shape), z, self._generator) * self._scale
        new_z, new_q = midpoint_flow(evaluator, z, evaluator.lower(z, v), self._n_geodesic_steps)
        new_v = evaluator.flow(new_z, new_q)[0]
        evaluator.gradient(new_z)
        log_density = evaluator.log_density()
        log_ratio = log_density - self.log_density
        if self._corrected:
            # log det G^-1 is twice the log-density, or minus that.
            log_ratio = log_ratio * (1.0 + 2.0 * evaluator.cometric_power)
            log_ratio = log_ratio + (v.square().sum(0) - new_v.square().sum(0)) / (
                2.0 * self._scale**2
            )
        divergent = ~(
            torch.isfinite(log_density) & torch.isfinite(new_z).all(0) & torch.isfinite(log_ratio)
        )
        return Proposal(new_z, log_density, log_ratio, divergent)

    def decide(self, accept: Tensor, proposal: Proposal) -> None:
        """Move the accepted walks."""
        self.log_density = torch.where(accept, proposal.log_density, self.log_density)
