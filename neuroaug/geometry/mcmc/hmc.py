"""Hamiltonian Monte Carlo on the density of a metric (TPAMI eq. 9, 14 and App. C; GEO Alg. 2).

Target: ``exp(log_density)`` on the ball S of the given radius, i.e. sqrt(det G^-1) for the learned
metric and sqrt(det G) for a VAE's. H(z, v) = -log_density(z) + 1/2 v^T v, with the Stormer-Verlet
leapfrog

    v' = v + eps/2 grad(z);   z_next = z + eps v';   v_next = v' + eps/2 grad(z_next)

which needs one gradient per step, since the gradient at z_next is the next step's first.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import count, positive
from neuroaug.geometry.mcmc.chains import ChainInfo, ChainState, Proposal, normal, run_chains
from neuroaug.geometry.metrics.base import Evaluator, Metric

# A proposal whose energy exceeds the start's by this many nats is called divergent (as in Stan and
# blackjax).
MAX_ENERGY_ERROR = 1000.0


def sample(
    metric: Metric,
    initial: Tensor,
    *,
    n_steps: int,
    n_leapfrog: int,
    step_size: float,
    generator: torch.Generator,
    radius: float | None = None,
    trace: bool = False,
    n_workers: int | None = None,
) -> tuple[Tensor, ChainInfo]:
    """Run B independent chains and return where they end.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric that gives the density.
    initial : Tensor, shape (B, d)
        Starts of the chains; their type is the precision of the run.
    n_steps : int
        Proposals per chain (300 in TPAMI, 100 in GEO).
    n_leapfrog : int
        Leapfrog steps per proposal, l (10 to 15).
    step_size : float
        Step eps of the leapfrog, gamma in TPAMI (.01 to .05).
    generator : torch.Generator
        Source of all randomness, on the CPU or the device of `initial`. The same state gives the
        same samples.
    radius : float, optional
        Radius of the ball S around 0. A proposal outside is rejected; a chain that starts outside
        accepts the first finite proposal inside. None: no bound, and a learned target is improper.
    trace : bool
        Whether the info keeps every position and log-density.
    n_workers : int, optional
        Threads over which chunks of chains are spread (default: torch's). No sample depends on it.

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
    >>> from neuroaug.geometry import LearnedMetric, hmc
    >>> metric = LearnedMetric(torch.eye(2), torch.eye(2).repeat(2, 1, 1), 1.0, 1e-2)
    >>> samples, info = hmc.sample(
    ...     metric, metric.centroids, n_steps=20, n_leapfrog=10, step_size=0.05,
    ...     generator=torch.Generator().manual_seed(0), radius=metric.radius
    ... )
    >>> samples.shape, bool((samples.norm(dim=1) <= metric.radius).all()), info.n_divergent
    (torch.Size([2, 2]), True, 0)
    >>> bool((info.acceptance_rate > 0.8).all())
    True
    """
    propose = partial(
        _propose,
        n_leapfrog=count("n_leapfrog", n_leapfrog),
        step_size=positive("step_size", step_size),
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
    n_leapfrog: int,
    step_size: float,
) -> Proposal:
    """Draw a velocity, and follow the leapfrog."""
    v = normal(state.z, generator)
    energy = 0.5 * v.square().sum(0) - state.log_density
    z, gradient = state.z.clone(), state.gradient
    v.add_(gradient, alpha=0.5 * step_size)
    for k in range(n_leapfrog):
        z.add_(v, alpha=step_size)
        gradient = evaluator.gradient(z)
        v.add_(gradient, alpha=step_size if k + 1 < n_leapfrog else 0.5 * step_size)
    log_density = evaluator.log_density()
    new_energy = 0.5 * v.square().sum(0) - log_density
    divergent = ~torch.isfinite(new_energy) | (new_energy - energy > MAX_ENERGY_ERROR)
    return Proposal(ChainState(z, gradient, log_density), energy - new_energy, divergent)
