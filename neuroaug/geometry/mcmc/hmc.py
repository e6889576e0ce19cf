"""Hamiltonian Monte Carlo on the density of a metric (TPAMI eq. 9, 14 and App. C; GEO Alg. 2).

Target: ``exp(log_density)`` on the ball S of the given radius, i.e. sqrt(det G^-1) for the learned
metric and sqrt(det G) for a VAE's. H(z, v) = -log_density(z) + 1/2 v^T v, with the Stormer-Verlet
leapfrog

    v' = v + eps/2 grad(z);   z_next = z + eps v';   v_next = v' + eps/2 grad(z_next)

which needs one gradient a step, since the gradient at z_next is the next step's first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuroaug.geometry.mcmc.chains import (
    ChainInfo,
    ChunkResult,
    Metric,
    Proposal,
    check_arguments,
    metropolis,
    normal,
    outside,
    run_in_chunks,
)
from neuroaug.geometry.metrics.evaluators import Evaluator

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
        Gives the density.
    initial : Tensor, shape (B, d)
        Where the chains start; its type is the precision of the run.
    n_steps : int
        Proposals a chain (the papers' 300; GEO: 100).
    n_leapfrog : int
        Leapfrog steps a proposal, l (10 to 15).
    step_size : float
        eps, or gamma in TPAMI (.01 to .05).
    generator : torch.Generator
        Source of all randomness, on the CPU or the device of `initial`. The same state gives the
        same draws.
    radius : float, optional
        Of the ball S around 0; a proposal outside is rejected. None: no bound, and a learned target
        is improper.
    trace : bool
        Keep every position and log-density in the info.
    n_workers : int, optional
        Threads over which chunks of chains are spread (default: torch's). No draw depends on it.

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
        metric, initial, radius, n_steps=n_steps, n_leapfrog=n_leapfrog, step_size=step_size
    )

    def advance(z: Tensor, own_generator: torch.Generator) -> ChunkResult:
        evaluator = metric.evaluator(z.shape[1], z.dtype)
        transition = _HmcTransition(evaluator, z, n_leapfrog, step_size, own_generator, radius)
        return metropolis(transition, z, n_steps, own_generator, radius, trace)

    return run_in_chunks(initial, n_steps, generator, advance, n_workers)


class _HmcTransition:
    """HMC proposals of one chunk of chains; the gradient and density at z are carried from step to
    step.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        z: Tensor,
        n_leapfrog: int,
        step_size: float,
        generator: torch.Generator,
        radius: float | None,
    ) -> None:
        self._evaluator, self._n_leapfrog, self._step_size = evaluator, n_leapfrog, step_size
        self._generator = generator
        self._grad = evaluator.gradient(z).clone()
        self.log_density = evaluator.log_density().clone()
        # A chain that starts outside the ball accepts the first proposal inside it.
        if (beyond := outside(z, radius)) is not None:
            self.log_density.masked_fill_(beyond, -torch.inf)

    def propose(self, z: Tensor) -> Proposal:
        """Draw a velocity, and follow the leapfrog."""
        gradient, step_size = self._evaluator.gradient, self._step_size
        v = normal(tuple(z.shape), z, self._generator)
        energy = 0.5 * v.square().sum(0) - self.log_density
        new_z, new_grad = z.clone(), self._grad
        v.add_(new_grad, alpha=0.5 * step_size)
        for k in range(self._n_leapfrog):
            new_z.add_(v, alpha=step_size)
            new_grad = gradient(new_z)
            v.add_(new_grad, alpha=step_size if k + 1 < self._n_leapfrog else 0.5 * step_size)
        log_density = self._evaluator.log_density()
        new_energy = 0.5 * v.square().sum(0) - log_density
        divergent = ~torch.isfinite(new_energy) | (new_energy - energy > MAX_ENERGY_ERROR)
        self._new_grad = new_grad
        return Proposal(new_z, log_density, energy - new_energy, divergent)

    def decide(self, accept: Tensor, proposal: Proposal) -> None:
        """Move the accepted chains."""
        self._grad = torch.where(accept, self._new_grad, self._grad)
        self.log_density = torch.where(accept, proposal.log_density, self.log_density)
