"""Samplers by name: latents of image i as a function of (model, sampler, profile, seed, label, i)
alone.

Images are drawn in full blocks of `BLOCK`, aligned on i: block b holds images b BLOCK + 1 .. (b +
1) BLOCK, has a generator of its own keyed by a hash, and is always drawn whole, so neither the
number asked for, nor a shard, nor an interruption changes a bit. Chains run on the CPU in float32,
each elementary operation on one thread, whatever device decodes the images: the latents do not
depend on the number of cores either.

=============  =======================================================  ==========================================
name           density                                                  profile ``paper``
=============  =======================================================  ==========================================
hmc            sqrt(det G^-1) of an RHVAE's metric, by HMC              300 steps of 15 leapfrogs of .03 (TPAMI)
random-walk    Riemannian random walk, as printed in OASIS              200 steps (OASIS); scale .1 (ours)
geometric      sqrt(det G) of a plain VAE's posteriors, by HMC          100 steps of 10 leapfrogs of .01 (GEO)
prior          N(0, I)
mixture        Gaussian mixture fitted to the codes                     min(10, N // 5) components
=============  =======================================================  ==========================================
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neuroaug.errors import InputError
from neuroaug.geometry import LearnedMetric, PosteriorMetric
from neuroaug.geometry.mcmc import diagnostics, hmc, random_walk, tuning
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.system.randomness import SAMPLES

if TYPE_CHECKING:
    from neuroaug.models.generative_model import GenerativeModel

log = logging.getLogger("neuroaug")

BLOCK = 1024
"""Images of a block: two chunks of chains, one a core of the smallest machine; one image costs a
block (seconds).
"""

DRAW_THREADS = 2
"""Threads while drawing and decoding, whatever the machine has: rounding of convolutions may depend
on them.
"""

N_DIAGNOSED = 64
"""Chains of a block whose whole paths are kept for split R-hat and effective sample size."""

NAMES = ("hmc", "random-walk", "geometric", "prior", "mixture")
PROFILES = ("tuned", "paper")

PAPER: dict[str, dict[str, Any]] = {
    "hmc": {"n_steps": 300, "n_leapfrog": 15, "step_size": 0.03},
    "random-walk": {"n_steps": 200, "scale": 0.1, "n_geodesic_steps": random_walk.GEODESIC_STEPS},
    "geometric": {"n_steps": 100, "n_leapfrog": 10, "step_size": 0.01},
}

# A chain has stayed when it ends within this fraction of the centroids' spread of its start; draws
# are called stuck when more than the second figure of them stayed (independent draws do so far less
# often, from d = 2 on).
STAYED_FRACTION, STUCK_SHARE = 0.1, 0.2

# Above this split R-hat of a block the caller is told that draws depend on where their chains
# started.
MAX_R_HAT = 1.2


@dataclass(frozen=True)
class DrawInfo:
    """How each of n draws came about. NaN stands for what a sampler has not got (`prior` and
    `mixture` run no chains).

    Attributes
    ----------
    indices : ndarray of int, shape (n,)
        The images, from 1.
    acceptance_rate : ndarray, shape (n,)
        Of the draw's own chain.
    displacement : ndarray, shape (n,)
        Distance of the draw from the centroid that its chain started at.
    split_r_hat, effective_sample_size : ndarray, shape (n,)
        Of the draw's block, from the paths of its first `N_DIAGNOSED` chains: the worst coordinate;
        the effective sample size is a chain's, over its whole length.
    n_divergent : int
        Divergent proposals in the blocks drawn (padding included).
    stuck : bool
        Whether too many chains stayed at their centroids.
    warning : str or None
        What to tell the user.
    settings : dict
        The sampler's settings (`settings`).
    """

    indices: np.ndarray
    acceptance_rate: np.ndarray
    displacement: np.ndarray
    split_r_hat: np.ndarray
    effective_sample_size: np.ndarray
    n_divergent: int
    stuck: bool
    warning: str | None
    settings: dict[str, Any]


@contextmanager
def draw_threads() -> Iterator[None]:
    """Give torch `DRAW_THREADS` threads while the block runs, and back what it had afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(DRAW_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _metric(model: GenerativeModel, sampler: str) -> LearnedMetric | PosteriorMetric:
    """The model's metric on the CPU in float32, if `sampler` can use it."""
    metric = model.metric
    if metric is None:
        raise InputError("the model has no metric yet; train it first")
    learned = isinstance(metric, LearnedMetric)
    if sampler in ("hmc", "random-walk") and not learned:
        raise InputError(
            f"sampler {sampler}: it needs the metric that an RHVAE learns, and this model is a plain VAE; "
            "use --sampler geometric, or train with generator.model: rhvae"
        )
    if sampler == "geometric" and learned:
        raise InputError(
            "sampler geometric: it needs the posterior covariances of a plain VAE, and this model is an RHVAE; "
            "use --sampler hmc, or train with generator.model: vae"
        )
    return metric.to("cpu", torch.float32)


def _check(sampler: str, profile: str) -> None:
    if sampler not in NAMES:
        raise InputError(f"sampler {sampler}: unknown; choose one of {', '.join(NAMES)}")
    if profile not in PROFILES:
        raise InputError(f"sampler profile {profile}: unknown; choose one of {', '.join(PROFILES)}")


def tune_step_size(model: GenerativeModel) -> dict[str, Any]:
    """Tune every chain sampler that the model's metric allows (`neuroaug.geometry.mcmc.tuning`);
    done once, after training.

    Returns
    -------
    dict
        For each sampler its settings and what the pilot chains showed: ``step_size`` (or
        ``scale``), ``n_leapfrog``, ``n_steps``, ``r_hat``, ``ess`` (a chain), ``acceptance``,
        ``displacement``, ``n_divergent``, ``mixed``.
    """
    names = ("hmc", "random-walk") if isinstance(model.metric, LearnedMetric) else ("geometric",)
    return {name: _tune(model, name) for name in names}


def _tune(model: GenerativeModel, sampler: str) -> dict[str, Any]:
    metric = _metric(model, sampler)
    function = tuning.tune_random_walk if sampler == "random-walk" else tuning.tune_hmc
    with draw_threads():
        found = function(metric, metric.centroids, metric.radius)
    return {
        key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()
    } | {key: found[key] for key in ("step_size", "scale") if key in found}


def settings(model: GenerativeModel, sampler: str, profile: str = "tuned") -> dict[str, Any]:
    """Everything that a draw depends on beside model, seed, label and index.

    A model that was not tuned after its training (`tune_step_size`) is tuned now, once.

    Raises
    ------
    InputError
        If sampler or profile is unknown, or the model has not got the metric that the sampler
        needs.
    """
    _check(sampler, profile)
    if sampler == "prior":
        return {"latent_dim": model.latent_dim}
    metric = _metric(model, sampler)
    if sampler == "mixture":
        return {"n_components": n_components(metric.n_centroids)}
    if profile == "paper":
        chosen = dict(PAPER[sampler])
    else:
        if sampler not in model.sampler_settings:
            model.sampler_settings[sampler] = _tune(model, sampler)
        keys = PAPER[sampler]
        chosen = {
            key: value for key, value in model.sampler_settings[sampler].items() if key in keys
        }
    return {**chosen, "radius": metric.radius}


def n_components(n_codes: int) -> int:
    """Components of the mixture: 10, as in the papers, or a fifth of the codes where there are
    fewer than 50.
    """
    return max(1, min(10, n_codes // 5))


def block_generator(
    sampler: str, profile: str, seed: int, label: str | None, block: int
) -> torch.Generator:
    """Random numbers of one block, keyed by a hash of everything that names it."""
    return torch.Generator().manual_seed(SAMPLES.seed(sampler, profile, seed, label or "", block))


def _wanted(indices: Iterable[int] | tuple[int, int]) -> np.ndarray:
    """Indices from ``(start, count)`` or from any iterable that is not a pair's tuple."""
    if isinstance(indices, tuple) and len(indices) == 2:
        start, count = indices
        if start < 1 or count < 1:
            raise InputError(
                f"draws {start}, {count}: images are counted from 1, and at least 1 must be asked for"
            )
        return np.arange(start, start + count)
    wanted = np.asarray(list(indices), dtype=np.int64)
    if not wanted.size or wanted.min() < 1:
        raise InputError("draws: images are counted from 1, and at least 1 must be asked for")
    return wanted


def draw_latents(
    model: GenerativeModel,
    indices: Iterable[int] | tuple[int, int],
    *,
    sampler: str = "hmc",
    profile: str = "tuned",
    seed: int = 0,
    label: str | None = None,
) -> tuple[Tensor, DrawInfo]:
    """Draw the latents of given images.

    Parameters
    ----------
    model : RHVAE or VAE
        The generator.
    indices : (start, count), or an iterable of int
        Images, counted from 1.
    sampler : str
        One of `NAMES`.
    profile : {"tuned", "paper"}
        Settings tuned at the end of training, or the papers'.
    seed : int
        Of the set.
    label : str, optional
        The diagnosis, part of the key.

    Returns
    -------
    z : Tensor, shape (n, d)
        float32, on the CPU.
    info : DrawInfo
        Of every draw.

    Raises
    ------
    InputError
        If a name is unknown, an index is below 1, or the sampler is not one for this model.
    """
    wanted = _wanted(indices)
    used = settings(model, sampler, profile)
    drawer = _Drawer(model, sampler, profile, used)
    blocks = (wanted - 1) // BLOCK
    d = model.latent_dim
    z = torch.empty(len(wanted), d)
    columns = np.full((4, len(wanted)), np.nan)
    n_divergent = 0
    with draw_threads(), torch.no_grad():
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            within = (wanted[here] - 1) % BLOCK
            drawn = drawer(block_generator(sampler, profile, seed, label, int(block)))
            z[torch.from_numpy(here)] = drawn.z[torch.from_numpy(within)]
            if drawn.info is not None:
                columns[0, here] = drawn.info.acceptance_rate.numpy()[within]
                columns[1, here] = drawn.info.displacement.numpy()[within]
                columns[2, here], columns[3, here] = drawn.r_hat, drawn.ess
                n_divergent += drawn.info.n_divergent
    acceptance, displacement, r_hat, ess = columns
    stuck, warning = drawer.verdict(acceptance, displacement, r_hat)
    if warning is not None:
        log.warning("%s", warning)
    return z, DrawInfo(
        wanted, acceptance, displacement, r_hat, ess, n_divergent, stuck, warning, used
    )


@dataclass(frozen=True)
class _Drawn:
    """A full block."""

    z: Tensor
    info: ChainInfo | None = None
    r_hat: float = float("nan")
    ess: float = float("nan")


class _Drawer:
    """Draws full blocks with one sampler of one model."""

    def __init__(
        self, model: GenerativeModel, sampler: str, profile: str, used: dict[str, Any]
    ) -> None:
        self._sampler, self._profile, self._settings, self._dim = (
            sampler,
            profile,
            used,
            model.latent_dim,
        )
        self._metric = None if sampler == "prior" else _metric(model, sampler)
        self._mixture = (
            _fit_mixture(self._metric, used["n_components"]) if sampler == "mixture" else None
        )

    def __call__(self, generator: torch.Generator) -> _Drawn:
        if self._sampler == "prior":
            return _Drawn(torch.randn(BLOCK, self._dim, generator=generator))
        if self._mixture is not None:
            return _Drawn(_draw_mixture(*self._mixture, generator))
        metric = self._metric
        assert metric is not None
        starts = metric.centroids[torch.randint(metric.n_centroids, (BLOCK,), generator=generator)]
        sample = random_walk.sample if self._sampler == "random-walk" else hmc.sample
        z, info = sample(
            metric,
            starts,
            generator=generator,
            trace=True,
            n_workers=DRAW_THREADS,
            **self._settings,
        )
        if self._settings["n_steps"] < diagnostics.MIN_SAMPLES:
            return _Drawn(z, info)
        found = tuning.mixing(info, N_DIAGNOSED)
        return _Drawn(z, info, found.r_hat, found.ess)

    def verdict(
        self, acceptance: np.ndarray, displacement: np.ndarray, r_hat: np.ndarray
    ) -> tuple[bool, str | None]:
        """Whether too many chains stayed at their centroids, and what to say about the chains."""
        if self._metric is None or np.isnan(displacement).any():
            return False, None
        centroids = self._metric.centroids
        spread = float((centroids - centroids.mean(0)).norm(dim=1).square().mean().sqrt())
        stayed = float(np.mean(displacement <= STAYED_FRACTION * spread))
        advice = (
            "use --sampler-profile tuned"
            if self._profile == "paper"
            else "look at the metric contrast of the model"
        )
        if stayed > STUCK_SHARE:
            return True, (
                f"{stayed:.0%} of the chains stayed at their centroids (acceptance {acceptance.mean():.2f}, median "
                f"displacement {np.median(displacement):.3g} of a spread of {spread:.3g}): these draws are near copies "
                f"of training codes; {advice}"
            )
        worst = float(np.max(r_hat))
        if worst > MAX_R_HAT:
            modes = (
                f"the density has separate modes around the {len(centroids)} training codes, and each draw explores "
                "the one it started from, chosen at random, as the papers' sampler does where images are few; "
                "a larger generator.temperature or a smaller generator.latent_dim joins them"
            )
            return False, (
                f"the chains have moved but not mixed (split R-hat {worst:.2f}): "
                f"{advice if self._profile == 'paper' else modes}"
            )
        return False, None


def _fit_mixture(
    metric: LearnedMetric | PosteriorMetric | None, components: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, d) and covariance factors (K, d, d) of a mixture fitted to the
    centroids.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    assert metric is not None
    codes = metric.centroids.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianMixture(
            components, covariance_type="full", max_iter=500, random_state=0
        ).fit(codes)
    factors = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_))
    return torch.from_numpy(fitted.weights_), torch.from_numpy(fitted.means_), factors


def _draw_mixture(
    weights: Tensor, means: Tensor, factors: Tensor, generator: torch.Generator
) -> Tensor:
    chosen = torch.multinomial(weights, BLOCK, replacement=True, generator=generator)
    noise = torch.randn(BLOCK, means.shape[1], 1, dtype=means.dtype, generator=generator)
    return (means[chosen] + (factors[chosen] @ noise)[..., 0]).float()
