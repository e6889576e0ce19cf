"""What the two samplers share: checked input, chunks of chains, and the account of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import count, positive, require_floating
from neuroaug.geometry.metrics.evaluators import Evaluator

# Chains advanced together on a CPU: enough that an operation costs more than its call, few enough
# that the work space stays near a core. A GPU takes as many as there are, up to a bound on memory.
CHUNK_CPU, CHUNK_GPU = 512, 8192


class Metric(Protocol):
    """What a sampler or a geodesic asks of a metric."""

    @property
    def dim(self) -> int:
        """Dimension d."""
        ...

    @property
    def length_scale(self) -> float:
        """Distance over which the metric changes."""
        ...

    def log_density(self, z: Tensor) -> Tensor:
        """Log of the density sampled, shape (...)."""
        ...

    def metric_matrix(self, z: Tensor) -> Tensor:
        """G(z), shape (..., d, d)."""
        ...

    def grad_log_density(self, z: Tensor) -> Tensor:
        """Its gradient, shape (..., d)."""
        ...

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v^T G(z) v`` and its derivatives in z and v."""
        ...

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> Evaluator:
        """Fast evaluation of `n_chains` positions at a time."""
        ...


@dataclass(frozen=True)
class ChainInfo:
    """Account of B chains.

    Attributes
    ----------
    acceptance_rate : Tensor, shape (B,)
        Fraction of proposals accepted.
    n_divergent : int
        Proposals, over all chains, whose energy (or density) was NaN or infinite, or higher than at
        the start by more than `MAX_ENERGY_ERROR`. All were rejected.
    displacement : Tensor, shape (B,)
        Euclidean distance from start to end.
    n_outside : int
        Proposals rejected because they had left the ball of the given radius.
    trace : Tensor, shape (B, n_steps, d), or None
        Position after every step, when asked for.
    log_density_trace : Tensor, shape (B, n_steps), or None
        Log-density there.
    """

    acceptance_rate: Tensor
    n_divergent: int
    displacement: Tensor
    n_outside: int = 0
    trace: Tensor | None = None
    log_density_trace: Tensor | None = None


class ChunkResult(dict[str, Tensor]):
    """One chunk: ``z`` (d, n), ``accepted`` (n,), ``divergent``, ``outside`` (), and ``trace`` (n,
    n_steps, d + 1).
    """


class Proposal(NamedTuple):
    """Where n chains might go next.

    Attributes
    ----------
    z : Tensor, shape (d, n)
        Positions.
    log_density : Tensor, shape (n,)
        There.
    log_ratio : Tensor, shape (n,)
        Logarithm of the Metropolis-Hastings ratio.
    divergent : Tensor of bool, shape (n,)
        Proposals that are no numbers, or as good as none; never accepted.
    """

    z: Tensor
    log_density: Tensor
    log_ratio: Tensor
    divergent: Tensor


class Transition(Protocol):
    """How the chains of one chunk move; it knows their log-density, shape (n,)."""

    log_density: Tensor

    def propose(self, z: Tensor) -> Proposal:
        """Next positions, from z, shape (d, n)."""
        ...

    def decide(self, accept: Tensor, proposal: Proposal) -> None:
        """Take note of the proposals that were accepted, shape (n,)."""
        ...


def metropolis(
    transition: Transition,
    z: Tensor,
    n_steps: int,
    generator: torch.Generator,
    radius: float | None,
    trace: bool,
) -> ChunkResult:
    """Advance one chunk of chains, (d, n), by `n_steps` proposals, each accepted with probability
    min(1, ratio).
    """
    n = z.shape[1]
    accepted = torch.zeros(n, dtype=z.dtype, device=z.device)
    n_divergent = torch.zeros((), dtype=torch.int64, device=z.device)
    n_outside = torch.zeros_like(n_divergent)
    path = z.new_empty(n_steps, len(z) + 1, n) if trace else None
    for step in range(n_steps):
        proposal = transition.propose(z)
        # In logs: a NaN compares false and is a rejection.
        accept = (log_uniform(n, z, generator) < proposal.log_ratio) & ~proposal.divergent
        if (beyond := outside(proposal.z, radius)) is not None:
            accept &= ~beyond
            n_outside += (beyond & ~proposal.divergent).sum()
        n_divergent += proposal.divergent.sum()
        accepted += accept
        transition.decide(accept, proposal)
        z = torch.where(accept, proposal.z, z)
        if path is not None:
            path[step, :-1], path[step, -1] = z, transition.log_density
    result = ChunkResult(z=z, accepted=accepted, divergent=n_divergent, outside=n_outside)
    if path is not None:
        result["trace"] = path.permute(2, 0, 1)
    return result


def check_arguments(metric: Metric, initial: Tensor, radius: float | None, **named: float) -> None:
    """Refuse input that no chain could run on (`named` must be positive, those called n_* whole
    numbers).
    """
    require_floating("initial", initial)
    if initial.ndim != 2 or initial.shape[1] != metric.dim:
        raise ValueError(f"initial: expected shape (B, {metric.dim}), got {tuple(initial.shape)}")
    if radius is not None:
        positive("radius", radius)
    for name, value in named.items():
        if name.startswith("n_"):
            count(name, int(value) if value == int(value) else value)  # type: ignore[arg-type]
        else:
            positive(name, value)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal draws from `generator`, made on its device and moved to that of `like`."""
    return torch.randn(shape, dtype=like.dtype, generator=generator, device=generator.device).to(
        like.device
    )


def log_uniform(n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Logarithms of n uniform draws."""
    return (
        torch.rand(n, dtype=like.dtype, generator=generator, device=generator.device)
        .log_()
        .to(like.device)
    )


def outside(z: Tensor, radius: float | None) -> Tensor | None:
    """Which columns of z, shape (d, n), lie outside the ball; None without a ball."""
    return None if radius is None else z.square().sum(0) > radius**2


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
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


def run_in_chunks(
    initial: Tensor,
    n_steps: int,
    generator: torch.Generator,
    advance: Callable[[Tensor, torch.Generator], ChunkResult],
    n_workers: int | None = None,
) -> tuple[Tensor, ChainInfo]:
    """Run `advance` on chunks of chains, (d, n) each, and join their results.

    Chunks have generators of their own, seeded from `generator` in order, and run side by side on
    `n_workers` threads (default: as many as torch may use). The result does not depend on how many.
    """
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

    def run(chunk: Tensor, seed: int) -> ChunkResult:
        torch.set_num_threads(1)  # the setting is each thread's own
        with torch.no_grad():
            return advance(chunk, torch.Generator(generator.device).manual_seed(seed))

    with single_threaded_kernels():
        if workers == 1:
            results = [run(chunk, seed) for chunk, seed in zip(chunks, seeds, strict=True)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                results = list(pool.map(run, chunks, seeds))
    z = torch.cat([result["z"].T for result in results]).contiguous()
    trace = torch.cat([result["trace"] for result in results]) if "trace" in results[0] else None
    info = ChainInfo(
        acceptance_rate=torch.cat([result["accepted"] for result in results]) / n_steps,
        n_divergent=sum(int(result["divergent"]) for result in results),
        displacement=(z - initial).norm(dim=1),
        n_outside=sum(int(result["outside"]) for result in results),
        trace=None if trace is None else trace[..., :-1],
        log_density_trace=None if trace is None else trace[..., -1],
    )
    return z, info
