"""What the samplers share: checked input, chunks of chains, the Metropolis loop, the account of it.

The target is ``exp(log_density)`` on the ball of the given radius around 0, and zero outside. A
chain that starts outside therefore accepts the first finite proposal that lies inside, whatever the
densities; until then it stays where it is. No chain leaves the ball.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import count, positive, require_floating
from neuroaug.geometry.metrics.base import Evaluator, Metric

# Chains advanced together on a CPU: enough that an operation costs more than its call, few enough
# that the work space stays near a core. A GPU takes as many as there are, up to a bound on memory.
CHUNK_CPU, CHUNK_GPU = 512, 8192


@dataclass(frozen=True)
class ChainInfo:
    """Account of B chains.

    Attributes
    ----------
    acceptance_rate : Tensor, shape (B,)
        Fraction of proposals accepted.
    n_divergent : int
        Proposals, over all chains, whose energy or density was not finite, or (HMC) whose energy
        was higher than the start's by more than `hmc.MAX_ENERGY_ERROR`. All were rejected.
    displacement : Tensor, shape (B,)
        Euclidean distance from start to end.
    n_outside : int
        Proposals rejected because they had left the ball of the given radius.
    trace : Tensor, shape (B, n_steps, d), or None
        Position after every step, where a trace was requested.
    log_density_trace : Tensor, shape (B, n_steps), or None
        Logarithm of the target there; minus infinity outside the ball.
    """

    acceptance_rate: Tensor
    n_divergent: int
    displacement: Tensor
    n_outside: int = 0
    trace: Tensor | None = None
    log_density_trace: Tensor | None = None


class ChainState(NamedTuple):
    """Where n chains are.

    Attributes
    ----------
    z : Tensor, shape (d, n)
        Positions.
    gradient : Tensor, shape (d, n)
        Gradient of the log-density at z.
    log_density : Tensor, shape (n,)
        Log-density at z.
    """

    z: Tensor
    gradient: Tensor
    log_density: Tensor


class Proposal(NamedTuple):
    """Where n chains might go next.

    Attributes
    ----------
    state : ChainState
        Proposed state.
    log_ratio : Tensor, shape (n,)
        Logarithm of the Metropolis-Hastings ratio.
    divergent : Tensor of bool, shape (n,)
        Proposals that are not finite, or too far off to be trusted; never accepted.
    """

    state: ChainState
    log_ratio: Tensor
    divergent: Tensor


Propose = Callable[[Evaluator, ChainState, torch.Generator], Proposal]
"""How a sampler proposes the next state of one chunk of chains."""


class _Chunk(NamedTuple):
    """One chunk: positions (d, n), acceptances (n,), counts (), trace (n, n_steps, d + 1)."""

    z: Tensor
    accepted: Tensor
    n_divergent: Tensor
    n_outside: Tensor
    trace: Tensor | None


def run_chains(
    metric: Metric,
    initial: Tensor,
    propose: Propose,
    *,
    n_steps: int,
    generator: torch.Generator,
    radius: float | None,
    trace: bool,
    n_workers: int | None,
) -> tuple[Tensor, ChainInfo]:
    """Advance B chains by `n_steps` proposals, chunk by chunk, and join the results.

    Chunks have generators of their own, seeded from `generator` in order, and run side by side on
    `n_workers` threads (default: as many as torch may use). The result does not depend on how many.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric that gives the density.
    initial : Tensor, shape (B, d)
        Starts of the chains; their type is the precision of the run.
    propose : callable
        Evaluator, state and generator of a chunk -> `Proposal`.
    n_steps : int
        Proposals per chain.
    generator : torch.Generator
        Source of all randomness.
    radius : float or None
        Radius of the ball; None: no bound.
    trace : bool
        Whether the info keeps every position and log-density.
    n_workers : int or None
        Threads.

    Raises
    ------
    ValueError
        If `initial` has another dimension than the metric, or a setting is not positive.
    """
    require_floating("initial", initial)
    if initial.ndim != 2 or initial.shape[1] != metric.dim:
        raise ValueError(f"initial: expected shape (B, {metric.dim}), got {tuple(initial.shape)}")
    count("n_steps", n_steps)
    if radius is not None:
        positive("radius", radius)
    initial = initial.detach()
    if len(initial) == 0:
        empty = initial.new_empty(0)
        return initial.clone(), ChainInfo(empty, 0, empty.clone())
    on_cpu = initial.device.type == "cpu"
    chunks = [part.T.contiguous() for part in initial.split(CHUNK_CPU if on_cpu else CHUNK_GPU)]
    seeds = torch.randint(
        2**63 - 1, (len(chunks),), generator=generator, device=generator.device
    ).tolist()
    workers = min(n_workers or torch.get_num_threads(), len(chunks)) if on_cpu else 1

    def run(z: Tensor, seed: int) -> _Chunk:
        torch.set_num_threads(1)  # the setting is each thread's own
        own_generator = torch.Generator(generator.device).manual_seed(seed)
        with torch.no_grad():
            evaluator = metric.evaluator(z.shape[1], z.dtype)
            return _metropolis(evaluator, z, propose, n_steps, own_generator, radius, trace)

    with _single_threaded_operations():
        if workers == 1:
            results = [run(chunk, seed) for chunk, seed in zip(chunks, seeds, strict=True)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                results = list(pool.map(run, chunks, seeds))
    z = torch.cat([result.z.T for result in results]).contiguous()
    paths = [result.trace for result in results if result.trace is not None]
    path = torch.cat(paths) if paths else None
    info = ChainInfo(
        acceptance_rate=torch.cat([result.accepted for result in results]) / n_steps,
        n_divergent=sum(int(result.n_divergent) for result in results),
        displacement=(z - initial).norm(dim=1),
        n_outside=sum(int(result.n_outside) for result in results),
        trace=None if path is None else path[..., :-1],
        log_density_trace=None if path is None else path[..., -1],
    )
    return z, info


def _metropolis(
    evaluator: Evaluator,
    z: Tensor,
    propose: Propose,
    n_steps: int,
    generator: torch.Generator,
    radius: float | None,
    trace: bool,
) -> _Chunk:
    """Advance one chunk, (d, n); a proposal is accepted with probability min(1, ratio)."""
    n = z.shape[1]
    state = ChainState(z, evaluator.gradient(z).clone(), evaluator.log_density().clone())
    accepted = torch.zeros(n, dtype=z.dtype, device=z.device)
    n_divergent = torch.zeros((), dtype=torch.int64, device=z.device)
    n_outside = torch.zeros_like(n_divergent)
    path = z.new_empty(n_steps, len(z) + 1, n) if trace else None
    astray = _outside(z, radius)
    for step in range(n_steps):
        new, log_ratio, divergent = propose(evaluator, state, generator)
        beyond = _outside(new.z, radius)
        # In logs: a NaN compares false and is a rejection.
        accept = (_log_uniform(n, z, generator) < log_ratio) | astray
        accept &= ~(divergent | beyond)
        n_divergent += divergent.sum()
        n_outside += (beyond & ~divergent).sum()
        accepted += accept
        astray = astray & ~accept
        state = ChainState(*(torch.where(accept, *pair) for pair in zip(new, state, strict=True)))
        if path is not None:
            path[step, :-1] = state.z
            path[step, -1] = state.log_density.masked_fill(astray, -torch.inf)
    return _Chunk(
        state.z, accepted, n_divergent, n_outside, None if path is None else path.permute(2, 0, 1)
    )


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, type and device of `like`."""
    numbers = torch.randn(
        like.shape, dtype=like.dtype, generator=generator, device=generator.device
    )
    return numbers.to(like.device)


def _log_uniform(n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Logarithms of n uniform numbers, of the type and on the device of `like`."""
    numbers = torch.rand(n, dtype=like.dtype, generator=generator, device=generator.device)
    return numbers.log_().to(like.device)


def _outside(z: Tensor, radius: float | None) -> Tensor:
    """Which columns of z, shape (d, n), lie outside the ball."""
    return z.square().sum(0) > (torch.inf if radius is None else radius**2)


@contextmanager
def _single_threaded_operations() -> Iterator[None]:
    """Keep each elementary operation on the thread that calls it, while the block runs.

    Operations on a chunk take microseconds: spreading one over two cores gains little when the
    machine is idle, costs a factor of ten when it is not, and makes rounding depend on the number
    of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
