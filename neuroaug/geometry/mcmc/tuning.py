"""Step sizes and chain lengths from pilot chains: measured, not assumed.

Pilot chains start at centroids, as a model's chains do. First the largest step that is still
accepted; then, among fractions of it and a few trajectory lengths, the pair with the most effective
samples per gradient; then the number of steps, the least at which the chains have forgotten where
they started: effective sample size per chain and split R-hat
(`neuroaug.geometry.mcmc.diagnostics`), coordinates and log-density alike. Deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from neuroaug.geometry.mcmc import diagnostics, hmc, random_walk
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.geometry.metrics.base import Metric

N_PILOTS = 128
N_PILOT_STEPS = 32
# A chain is long enough when it is worth this many independent samples from the start on: its last
# sample is then all but independent of its first position.
MIN_ESS_PER_CHAIN = 10.0
MAX_R_HAT = 1.1
# The largest step is the one whose energy errors alone, without the ball, still leave this
# acceptance. Within the ball it may be less: where the density is flat, the best chains often run
# into the boundary.
TARGET_ACCEPTANCE, MIN_ACCEPTANCE = 0.8, 0.25
N_BISECTIONS = 6
# Leapfrog steps per proposal, and fractions of the largest step, that are tried together.
GRID = {
    1: (1.0, 0.5, 0.25),
    3: (1.0, 0.7, 0.35, 0.15, 0.07),
    6: (1.0, 0.6, 0.3, 0.15),
    12: (0.6, 0.3),
}
STEPS = (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960)
# The papers' chains: no tuned chain costs more gradients.
PAPER_GRADIENTS = 300 * 15
PAPER_WALK_STEPS = 200


@dataclass(frozen=True)
class Mixing:
    """How well chains mixed, by the worst of the coordinates and the log-density.

    Attributes
    ----------
    r_hat : float
        Rank-normalised split R-hat.
    ess : float
        Bulk effective sample size, divided by the number of chains.
    acceptance : float
        Mean acceptance rate.
    displacement : float
        Median distance of the ends from the starts.
    n_divergent : int
        Number of divergent proposals.
    """

    r_hat: float
    ess: float
    acceptance: float
    displacement: float
    n_divergent: int


def pilot_starts(centroids: Tensor, n: int = N_PILOTS) -> Tensor:
    """Return n centroids, shape (n, d), spread evenly over all N (repeated where there are fewer).

    Examples
    --------
    >>> import torch
    >>> pilot_starts(torch.arange(6.0)[:, None], 3).squeeze(1)
    tensor([0., 2., 4.])
    """
    index = torch.arange(n, dtype=torch.float64) * len(centroids) / n
    return centroids[(index.floor().long() % len(centroids)).to(centroids.device)]


def mixing(info: ChainInfo, n_chains: int | None = None) -> Mixing:
    """Diagnostics of a run with a trace, or of its first `n_chains` chains.

    Raises
    ------
    ValueError
        If the run kept no trace.
    """
    if info.trace is None or info.log_density_trace is None:
        raise ValueError("info: expected a run with trace=True")
    channels = torch.cat([info.trace, info.log_density_trace.unsqueeze(-1)], -1)[:n_chains]
    ess = diagnostics.effective_sample_size(channels) / len(channels)
    return Mixing(
        r_hat=float(diagnostics.split_r_hat(channels).max()),
        ess=0.0 if bool(ess.isnan().any()) else float(ess.min()),
        acceptance=float(info.acceptance_rate.mean()),
        displacement=float(info.displacement.median()),
        n_divergent=info.n_divergent,
    )


Run = Callable[[Tensor, int, int], tuple[Tensor, ChainInfo]]


def _steps_needed(run: Run, starts: Tensor, max_steps: int) -> dict[str, Any]:
    """Lengthen pilot chains until they have mixed, or have cost as much as the papers' chains."""
    allowed = [n for n in STEPS if n <= max_steps] or [max_steps]
    if allowed[-1] < max_steps <= STEPS[-1]:
        allowed.append(max_steps)
    trace = starts.new_empty(len(starts), 0, starts.shape[1])
    log_density = starts.new_empty(len(starts), 0)
    z, accepted, n_divergent = starts, torch.zeros(len(starts)), 0
    for n_steps in allowed:
        more = n_steps - trace.shape[1]
        z, info = run(z, more, n_steps)
        assert info.trace is not None
        assert info.log_density_trace is not None
        trace = torch.cat([trace, info.trace], 1)
        log_density = torch.cat([log_density, info.log_density_trace], 1)
        accepted += info.acceptance_rate.cpu() * more
        n_divergent += info.n_divergent
        displacement = (z - starts).norm(dim=1)
        whole = ChainInfo(accepted / n_steps, n_divergent, displacement, 0, trace, log_density)
        found = mixing(whole)
        mixed = found.ess >= MIN_ESS_PER_CHAIN and found.r_hat <= MAX_R_HAT
        if mixed:
            break
    return {"n_steps": n_steps, "mixed": mixed, **asdict(found)}


def _largest(acceptance: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Largest value with an acceptance of at least `target`, by bisection of its logarithm.

    `low` where there is none.
    """
    if acceptance(high) >= target:
        return high
    low, high = math.log(low), math.log(high)
    for _ in range(N_BISECTIONS):
        middle = 0.5 * (low + high)
        if acceptance(math.exp(middle)) >= target:
            low = middle
        else:
            high = middle
    return math.exp(low)


def tune_hmc(metric: Metric, centroids: Tensor, radius: float, *, seed: int = 0) -> dict[str, Any]:
    """Settings of `hmc.sample` for chains that start at `centroids`.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric that gives the density.
    centroids : Tensor, shape (N, d)
        Starts of the chains.
    radius : float
        Radius of the ball S.
    seed : int
        Seed of the pilot chains.

    Returns
    -------
    dict
        ``step_size``, ``n_leapfrog``, ``n_steps``, and of pilot chains of that length ``r_hat``,
        ``ess`` (per chain), ``acceptance``, ``displacement``, ``n_divergent``, ``mixed`` (whether
        the bounds of this module were met).
    """
    starts = pilot_starts(centroids)

    def run(
        z: Tensor,
        n_steps: int,
        key: int,
        step_size: float,
        n_leapfrog: int,
        ball: float | None = radius,
    ) -> tuple[Tensor, ChainInfo]:
        return hmc.sample(
            metric,
            z,
            n_steps=n_steps,
            n_leapfrog=n_leapfrog,
            step_size=step_size,
            generator=torch.Generator(z.device).manual_seed(seed * 100_003 + key),
            radius=ball,
            trace=True,
        )

    def acceptance(step_size: float) -> float:
        return float(run(starts, 6, 1, step_size, 5, None)[1].acceptance_rate.mean())

    largest = _largest(acceptance, TARGET_ACCEPTANCE, 1e-4 * radius, radius)
    best = (-1.0, largest, max(GRID))
    for n_leapfrog, fractions in GRID.items():
        for fraction in fractions:
            step_size = largest * fraction
            _, info = run(starts, N_PILOT_STEPS, 2, step_size, n_leapfrog)
            found = mixing(info)
            usable = found.acceptance >= MIN_ACCEPTANCE
            gain = found.ess / n_leapfrog if usable else -1.0
            best = max(best, (gain, step_size, n_leapfrog))
    _, step_size, n_leapfrog = best
    step_size = float(f"{step_size:.3g}")
    needed = _steps_needed(
        lambda z, n_steps, key: run(z, n_steps, 1000 + key, step_size, n_leapfrog),
        starts,
        PAPER_GRADIENTS // n_leapfrog,
    )
    return {"step_size": step_size, "n_leapfrog": n_leapfrog, **needed}


def tune_random_walk(
    metric: Metric, centroids: Tensor, radius: float, *, seed: int = 0
) -> dict[str, Any]:
    """Settings of `random_walk.sample` for walks that start at `centroids`.

    The scale is the one accepted half the time. Parameters as for `tune_hmc`; the result has
    ``scale``, ``n_geodesic_steps`` and ``n_steps``, and the same diagnostics.
    """
    starts = pilot_starts(centroids)

    def run(z: Tensor, n_steps: int, key: int, scale: float) -> tuple[Tensor, ChainInfo]:
        return random_walk.sample(
            metric,
            z,
            n_steps=n_steps,
            scale=scale,
            generator=torch.Generator(z.device).manual_seed(seed * 100_003 + key),
            radius=radius,
            trace=True,
        )

    def acceptance(scale: float) -> float:
        return float(run(starts, 6, 1, scale)[1].acceptance_rate.mean())

    scale = float(f"{_largest(acceptance, 0.5, 1e-4 * radius, radius):.3g}")
    needed = _steps_needed(
        lambda z, n_steps, key: run(z, n_steps, 1000 + key, scale), starts, PAPER_WALK_STEPS
    )
    return {"scale": scale, "n_geodesic_steps": random_walk.GEODESIC_STEPS, **needed}
