"""HMC on the learned metric beside pythae's, in one run: time an image, acceptance, effective
sample size.

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

from neuroaug.geometry import LearnedMetric
from neuroaug.geometry.mcmc import hmc, tuning
from neuroaug.samplers.sampler import BLOCK

DIM, N_LEAPFROG, STEP_SIZE, N_STEPS = 10, 15, 0.03, 300
PAPER: dict[str, Any] = {"n_steps": N_STEPS, "n_leapfrog": N_LEAPFROG, "step_size": STEP_SIZE}
TEMPERATURE, REGULARIZATION = 1.5, 1e-2
SIZES = (453, 50)
N_DRAWS = 5000
N_REFERENCE = 200
THREADS = 2
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
    """Result, seconds on the clock, seconds of CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - clock, time.process_time() - cpu


def _draw(
    metric: LearnedMetric, n: int, trace: bool = False, **settings: Any
) -> tuple[Tensor, Any]:
    starts = metric.centroids[torch.arange(n) % metric.n_centroids]
    generator = torch.Generator().manual_seed(1)
    return hmc.sample(
        metric,
        starts,
        generator=generator,
        radius=metric.radius,
        trace=trace,
        n_workers=THREADS,
        **settings,
    )


def _pythae(metric: LearnedMetric) -> Callable[[int, int], Tensor] | None:
    """Give the sampler of pythae on the same metric, (chains, steps) -> latents; None where it is
    not installed.
    """
    try:
        from pythae.models import RHVAE, RHVAEConfig
        from pythae.samplers import RHVAESampler, RHVAESamplerConfig
    except ImportError:
        return None
    model = RHVAE(
        RHVAEConfig(
            input_dim=(1, 2, 2),
            latent_dim=DIM,
            temperature=TEMPERATURE,
            regularization=REGULARIZATION,
        )
    )
    model.centroids_tens = metric.centroids
    model.M_tens = metric.factors @ metric.factors.mT
    from pythae.models.rhvae.rhvae_utils import create_inverse_metric, create_metric

    model.G, model.G_inv = create_metric(model), create_inverse_metric(model)

    def draw(n: int, n_steps: int) -> Tensor:
        config = RHVAESamplerConfig(mcmc_steps_nbr=n_steps, n_lf=N_LEAPFROG, eps_lf=STEP_SIZE)
        torch.manual_seed(0)
        return RHVAESampler(model, config).hmc_sampling(n)

    return draw


def _row(
    name: str,
    value: float,
    unit: str,
    reference: float | None = None,
    note: str = "",
    *,
    faster: bool = True,
) -> dict[str, Any]:
    above, below = (reference, value) if faster else (value, reference)
    ratio = above / below if above is not None and below else None
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "reference_value": reference,
        "ratio": ratio,
        "note": note,
    }


def _per_image(full: bool) -> list[dict[str, Any]]:
    rows = []
    for n_centroids in SIZES:
        metric = random_metric(n_centroids)
        _draw(metric, BLOCK, n_steps=2, n_leapfrog=N_LEAPFROG, step_size=STEP_SIZE)
        (_, info), clock, cpu = _timed(partial(_draw, metric, BLOCK, **PAPER))
        theirs, their_acceptance, note = (
            None,
            None,
            "pythae: not installed (pip install 'neuroaug[reference]')",
        )
        draw = _pythae(metric)
        if draw is not None:
            steps = REFERENCE_STEPS[full][n_centroids]
            moved = draw(N_REFERENCE, 1)
            at_start = (
                torch.cdist(
                    moved, metric.centroids, compute_mode="donot_use_mm_for_euclid_dist"
                ).amin(1)
                == 0
            )
            their_acceptance = 1.0 - float(at_start.float().mean())
            _, their_clock, their_cpu = _timed(partial(draw, N_REFERENCE, steps))
            scale = N_STEPS / steps / N_REFERENCE
            theirs = their_clock * scale
            note = (
                f"{BLOCK} chains, CPU {cpu / BLOCK * 1e3:.2f} ms an image; pythae {N_REFERENCE} "
                f"chains, {steps} of {N_STEPS} steps timed, CPU {their_cpu * scale * 1e3:.0f} ms"
            )
        name = f"HMC 300 x 15, d = 10, {n_centroids} centroids"
        rows.append(_row(name, clock / BLOCK, "s/image", theirs, note))
        rows.append(
            _row(
                f"acceptance at step .03, {n_centroids} centroids",
                float(info.acceptance_rate.mean()),
                "",
                their_acceptance,
                "ours over 300 steps; pythae the first step from a centroid",
                faster=False,
            )
        )
    return rows


def equal_mixing(metric: LearnedMetric) -> tuple[dict[str, Any], tuning.Mixing, tuning.Mixing]:
    """Tuned settings whose chains are worth at least as many effective draws as the papers', both
    measured.

    Returns
    -------
    settings : dict
        ``n_steps``, ``n_leapfrog``, ``step_size``.
    tuned, paper : Mixing
        Diagnostics of chains with these settings, and with the papers'.
    """
    paper = tuning.mixing(_draw(metric, N_ESS_CHAINS, True, **PAPER)[1])
    found = tuning.tune_hmc(metric, metric.centroids, metric.radius)
    settings = {key: found[key] for key in ("n_steps", "n_leapfrog", "step_size")}
    tuned = tuning.mixing(_draw(metric, N_ESS_CHAINS, True, **settings)[1])
    while tuned.ess < paper.ess:
        settings["n_steps"] = math.ceil(
            settings["n_steps"] * max(1.1, 1.05 * paper.ess / max(tuned.ess, 1e-3))
        )
        tuned = tuning.mixing(_draw(metric, N_ESS_CHAINS, True, **settings)[1])
    return settings, tuned, paper


def _five_thousand(full: bool) -> list[dict[str, Any]]:
    metric = random_metric(453)
    n = N_DRAWS if full else 1280
    shown = "all 5000 drawn" if full else f"{n} drawn, times {N_DRAWS / n:.3g}"
    _, clock, cpu = _timed(partial(_draw, metric, n, **PAPER))
    settings, tuned, paper = equal_mixing(metric)
    (_, info), tuned_clock, tuned_cpu = _timed(partial(_draw, metric, N_DRAWS, **settings))
    paper_seconds = clock * N_DRAWS / n
    return [
        _row(
            "5000 draws, N = 453, paper settings",
            paper_seconds,
            "s",
            None,
            f"{shown}; CPU {cpu * N_DRAWS / n:.1f} s",
        ),
        _row(
            "5000 draws, N = 453, tuned, equal effective sample size",
            tuned_clock,
            "s",
            paper_seconds,
            f"{settings['n_steps']} x {settings['n_leapfrog']}, step {settings['step_size']}; acceptance "
            f"{float(info.acceptance_rate.mean()):.2f}; CPU {tuned_cpu:.1f} s; reference: ours with paper settings",
        ),
        _row(
            "effective draws a chain, tuned",
            tuned.ess,
            "",
            paper.ess,
            "reference: paper settings",
            faster=False,
        ),
        _row(
            "split R-hat, tuned",
            tuned.r_hat,
            "",
            paper.r_hat,
            "reference: paper settings",
            faster=False,
        ),
    ]


def run(full: bool = False) -> list[dict[str, Any]]:
    """Measure, and return one row a figure.

    Parameters
    ----------
    full : bool
        Time pythae and the 5000 draws over (nearly) their whole length: minutes instead of seconds.

    Returns
    -------
    list of dict
        ``name value unit reference_value ratio note``; `ratio` above 1 means better than the
        reference.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return _per_image(full) + _five_thousand(full)
    finally:
        torch.set_num_threads(before)
