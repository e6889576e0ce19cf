"""The Riemannian random walk (OASIS Alg. 1; THESIS Alg. 3).

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

from functools import partial

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import count, positive
from neuroaug.geometry.geodesic import midpoint_flow
from neuroaug.geometry.mcmc.chains import ChainInfo, ChainState, Proposal, normal, run_chains
from neuroaug.geometry.metrics.base import Evaluator, Metric

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
        Metric that gives the geodesics and the density.
    initial : Tensor, shape (B, d)
        Starts of the walks; their type is the precision of the run.
    n_steps : int
        Proposals per walk (OASIS: 200).
    scale : float
        Standard deviation of the velocities; Sigma = scale^2 I.
    generator : torch.Generator
        Source of all randomness, on the CPU or the device of `initial`. The same state gives the
        same samples.
    radius : float, optional
        Radius of the ball S around 0. A proposal outside is rejected; a walk that starts outside
        accepts the first finite proposal inside. None: no bound, and a learned target is improper.
    n_geodesic_steps : int
        Runge-Kutta steps of each exponential map.
    corrected : bool
        Whether the Hastings term is added: the walk then follows the density. False: as printed.
    trace : bool
        Whether the info keeps every position and log-density.
    n_workers : int, optional
        Threads over which chunks of walks are spread (default: torch's). No sample depends on it.

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

    Examples
    --------
    >>> import torch
    >>> from neuroaug.geometry import LearnedMetric, random_walk
    >>> metric = LearnedMetric(torch.eye(2), torch.eye(2).repeat(2, 1, 1), 1.0, 1e-2)
    >>> samples, info = random_walk.sample(
    ...     metric, metric.centroids, n_steps=20, scale=0.1,
    ...     generator=torch.Generator().manual_seed(0), radius=metric.radius
    ... )
    >>> samples.shape, bool((samples.norm(dim=1) <= metric.radius).all()), info.n_divergent
    (torch.Size([2, 2]), True, 0)
    """
    propose = partial(
        _propose,
        scale=positive("scale", scale),
        n_geodesic_steps=count("n_geodesic_steps", n_geodesic_steps),
        corrected=corrected,
    )
    return run_chains(
        metric,
        initial,
        propose,
        n_steps=n_steps,
        generator=generator,
        radius=radius,
        trace=trace,
        n_workers=n_workers,
    )


def _propose(
    evaluator: Evaluator,
    state: ChainState,
    generator: torch.Generator,
    *,
    scale: float,
    n_geodesic_steps: int,
    corrected: bool,
) -> Proposal:
    """Draw a velocity, and follow its geodesic."""
    v = normal(state.z, generator) * scale
    z, q = midpoint_flow(evaluator, state.z, evaluator.lower(state.z, v), n_geodesic_steps)
    new_v = evaluator.flow(z, q)[0]
    gradient = evaluator.gradient(z)
    log_density = evaluator.log_density()
    log_ratio = log_density - state.log_density
    if corrected:
        # log det G^-1 is twice the log-density, or minus that.
        log_ratio = log_ratio * (1.0 + 2.0 * evaluator.cometric_power)
        log_ratio = log_ratio + (v.square().sum(0) - new_v.square().sum(0)) / (2.0 * scale**2)
    finite = torch.isfinite(log_density) & torch.isfinite(z).all(0) & torch.isfinite(log_ratio)
    return Proposal(ChainState(z, gradient, log_density), log_ratio, ~finite)
