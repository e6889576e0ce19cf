"""HMC on the learned metric beside pythae's: time per image, acceptance, effective sample size.

The metric is random, of the size that the papers' models have (d = 10; 453 and 50 centroids), the
same for both. Both sides get two threads. pythae's cost is proportional to its steps, so unless
`full` a few are timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from neuroaug.bench.benchmark import N_SAMPLES, THREADS, row
from neuroaug.geometry import LearnedMetric
from neuroaug.geometry.mcmc import hmc, tuning
from neuroaug.samplers.sampler import BLOCK

DIM, N_LEAPFROG, STEP_SIZE, N_STEPS = 10, 15, 0.03, 300
PAPER: dict[str, Any] = {"n_steps": N_STEPS, "n_leapfrog": N_LEAPFROG, "step_size": STEP_SIZE}
TEMPERATURE, REGULARIZATION = 1.5, 1e-2
SIZES = (453, 50)
N_REFERENCE = 200
# Steps of pythae that are timed, of 300, for 453 and 50 centroids: in a quick run, and in a full
# one.
REFERENCE_STEPS = {False: {453: 3, 50: 15}, True: {453: 60, 50: 300}}
N_ESS_CHAINS = 256


def random_metric(n: int, seed: int = 0) -> LearnedMetric:
    """Random metric of `n` centroids in 10 dimensions, float32."""
    g = torch.Generator().manual_seed(seed)
    low = torch.randn(n, DIM, DIM, generator=g).mul(0.3).tril(-1)
    factors = low + torch.diag_embed(torch.rand(n, DIM, generator=g) + 0.3)
    return LearnedMetric(torch.randn(n, DIM, generator=g), factors, TEMPERATURE, REGULARIZATION)


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall-clock seconds, processor seconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - clock, time.process_time() - cpu


def _sample(
    metric: LearnedMetric, n: int, trace: bool = False, **settings: Any
) -> tuple[Tensor, Any]:
    starts = metric.centroids[torch.arange(n) % metric.n_centroids]
    how = {"radius": metric.radius, "trace": trace, "n_workers": THREADS, **settings}
    return hmc.sample(metric, starts, generator=torch.Generator().manual_seed(1), **how)


def _pythae(metric: LearnedMetric) -> Callable[[int, int], Tensor] | None:
    """Sampler of pythae on the same metric, (chains, steps) -> latents; None if not installed."""
    try:
        from pythae.models import RHVAE, RHVAEConfig
        from pythae.models.rhvae.rhvae_utils import create_inverse_metric, create_metric
        from pythae.samplers import RHVAESampler, RHVAESamplerConfig
    except ImportError:
        return None
    of_metric = {"temperature": TEMPERATURE, "regularization": REGULARIZATION}
    model = RHVAE(RHVAEConfig(input_dim=(1, 2, 2), latent_dim=DIM, **of_metric))
    model.centroids_tens = metric.centroids
    model.M_tens = metric.factors @ metric.factors.mT
    model.G, model.G_inv = create_metric(model), create_inverse_metric(model)

    def run(n: int, n_steps: int) -> Tensor:
        config = RHVAESamplerConfig(mcmc_steps_nbr=n_steps, n_lf=N_LEAPFROG, eps_lf=STEP_SIZE)
        torch.manual_seed(0)
        return RHVAESampler(model, config).hmc_sampling(n)

    return run


def _compared(
    name: str, value: float, unit: str, reference: float | None, note: str, *, more: bool = False
) -> dict[str, Any]:
    """Row whose ratio is above 1 where `value` is better than the reference: less, or `more`."""
    ratio = None
    if reference and value:
        ratio = value / reference if more else reference / value
    return row(name, value, unit, note, reference=reference, ratio=ratio)


def _per_image(full: bool) -> list[dict[str, Any]]:
    rows = []
    for n_centroids in SIZES:
        metric = random_metric(n_centroids)
        _sample(metric, BLOCK, n_steps=2, n_leapfrog=N_LEAPFROG, step_size=STEP_SIZE)
        (_, info), clock, cpu = _timed(partial(_sample, metric, BLOCK, **PAPER))
        theirs = their_acceptance = None
        note = "pythae: not installed (pip install 'neuroaug[reference]')"
        pythae = _pythae(metric)
        if pythae is not None:
            steps = REFERENCE_STEPS[full][n_centroids]
            exact = "donot_use_mm_for_euclid_dist"
            moved = torch.cdist(pythae(N_REFERENCE, 1), metric.centroids, compute_mode=exact)
            their_acceptance = float((moved.amin(1) > 0).float().mean())
            _, their_clock, their_cpu = _timed(partial(pythae, N_REFERENCE, steps))
            scale = N_STEPS / steps / N_REFERENCE
            theirs = their_clock * scale
            note = (
                f"{BLOCK} chains, CPU {cpu / BLOCK * 1e3:.2f} ms per image; "
                f"pythae {N_REFERENCE} chains, {steps} of {N_STEPS} steps timed, "
                f"CPU {their_cpu * scale * 1e3:.0f} ms"
            )
        name = f"HMC 300 x 15, d = 10, {n_centroids} centroids"
        rows.append(_compared(name, clock / BLOCK, "s/image", theirs, note))
        name, ours = f"acceptance at step .03, {n_centroids} centroids", info.acceptance_rate.mean()
        note = "ours over 300 steps; pythae the first step from a centroid"
        rows.append(_compared(name, float(ours), "", their_acceptance, note, more=True))
    return rows


def equal_mixing(metric: LearnedMetric) -> tuple[dict[str, Any], tuning.Mixing, tuning.Mixing]:
    """Tuned settings whose chains have at least the effective sample size of the papers' chains.

    Returns
    -------
    settings : dict
        Settings ``n_steps``, ``n_leapfrog``, ``step_size``.
    tuned, paper : Mixing
        Diagnostics of chains with these settings, and with the papers'.
    """
    paper = tuning.mixing(_sample(metric, N_ESS_CHAINS, True, **PAPER)[1])
    found = tuning.tune_hmc(metric, metric.centroids, metric.radius)
    settings = {key: found[key] for key in ("n_steps", "n_leapfrog", "step_size")}
    tuned = tuning.mixing(_sample(metric, N_ESS_CHAINS, True, **settings)[1])
    while tuned.ess < paper.ess:
        longer = max(1.1, 1.05 * paper.ess / max(tuned.ess, 1e-3))
        settings["n_steps"] = math.ceil(settings["n_steps"] * longer)
        tuned = tuning.mixing(_sample(metric, N_ESS_CHAINS, True, **settings)[1])
    return settings, tuned, paper


def _five_thousand(full: bool) -> list[dict[str, Any]]:
    metric = random_metric(453)
    n = N_SAMPLES if full else 1280
    shown = "all 5000 drawn" if full else f"{n} drawn, times {N_SAMPLES / n:.3g}"
    _, clock, cpu = _timed(partial(_sample, metric, n, **PAPER))
    settings, tuned, paper = equal_mixing(metric)
    (_, info), tuned_clock, tuned_cpu = _timed(partial(_sample, metric, N_SAMPLES, **settings))
    paper_seconds = clock * N_SAMPLES / n
    note = (
        f"{settings['n_steps']} x {settings['n_leapfrog']}, step {settings['step_size']}; "
        f"acceptance {float(info.acceptance_rate.mean()):.2f}; CPU {tuned_cpu:.1f} s; "
        "reference: ours with paper settings"
    )
    beside, what = "reference: paper settings", f"{N_SAMPLES} samples, N = 453"
    shown = f"{shown}; CPU {cpu * N_SAMPLES / n:.1f} s"
    equal, ess = f"{what}, tuned, equal effective sample size", "effective samples per chain, tuned"
    return [
        row(f"{what}, paper settings", paper_seconds, "s", shown),
        _compared(equal, tuned_clock, "s", paper_seconds, note),
        _compared(ess, tuned.ess, "", paper.ess, beside, more=True),
        _compared("split R-hat, tuned", tuned.r_hat, "", paper.r_hat, beside),
    ]


def run(full: bool = False) -> list[dict[str, Any]]:
    """Measure, and return one row a figure.

    Parameters
    ----------
    full : bool
        Whether to time pythae and the 5000 samples over (nearly) their whole length: minutes
        instead of seconds.

    Returns
    -------
    list of dict
        Rows of `neuroaug.bench.benchmark.row`; a ratio above 1 means better than the reference.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return _per_image(full) + _five_thousand(full)
    finally:
        torch.set_num_threads(before)
