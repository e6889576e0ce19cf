"""Latents by number: latent i is a function of (model, seed, label, i) alone.

They are drawn in full blocks, aligned on i and keyed by a hash, always with the same number of
threads, so that neither the request, batches, shards, workers nor an interruption changes a single
bit. Chains start at centroids chosen at random and only their last position counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroaug.errors import InputError
from neuroaug.registries import SAMPLERS
from neuroaug.samplers.sampler import BLOCK, PROFILES, SAMPLING_THREADS, LatentSpace, Sampler
from neuroaug.system.randomness import SAMPLES
from neuroaug.system.threads import torch_threads

log = logging.getLogger("neuroaug")


@dataclass(frozen=True)
class SamplingInfo:
    """How each of n latents came about; NaN where a sampler runs no chains.

    Attributes
    ----------
    indices : ndarray of int, shape (n,)
        Numbers of the images, from 1.
    acceptance_rate : ndarray, shape (n,)
        Acceptance of the latent's own chain.
    displacement : ndarray, shape (n,)
        Distance of the latent from the centroid that its chain started at.
    split_r_hat, effective_sample_size : ndarray, shape (n,)
        Split R-hat and effective sample size per chain of the latent's block, from the paths of
        its first chains: the worst coordinate.
    n_divergent : int
        Divergent proposals in the blocks drawn (padding included).
    stuck : bool
        Whether too many chains stayed at their centroids.
    warning : str or None
        What to tell the user.
    settings : dict
        Settings of the sampler.
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


def make_sampler(space: LatentSpace, name: str, profile: str = "tuned") -> Sampler:
    """The sampler of a name, ready for a space.

    Raises
    ------
    InputError
        If name or profile is unknown, or the space lacks what the sampler needs.
    """
    if profile not in PROFILES:
        raise InputError(f"sampler profile {profile}: unknown; choose one of {', '.join(PROFILES)}")
    sampler: Sampler = SAMPLERS.get(name)(space, profile)
    return sampler


def block_generator(
    sampler: str, profile: str, seed: int, label: str | None, block: int
) -> torch.Generator:
    """Random numbers of one block, keyed by everything that names it."""
    key = SAMPLES.seed(sampler, profile, seed, label or "", block)
    return torch.Generator().manual_seed(key)


def _wanted(indices: Iterable[int] | tuple[int, int]) -> np.ndarray:
    """Indices from ``(start, count)`` or from any iterable that is not a pair's tuple."""
    counted = "images are counted from 1, and at least 1 must be asked for"
    if isinstance(indices, tuple) and len(indices) == 2:
        start, count = indices
        if start < 1 or count < 1:
            raise InputError(f"draws {start}, {count}: {counted}")
        return np.arange(start, start + count)
    wanted = np.asarray(list(indices), dtype=np.int64)
    if not wanted.size or wanted.min() < 1:
        raise InputError(f"draws: {counted}")
    return wanted


def sample_latents(
    space: LatentSpace,
    indices: Iterable[int] | tuple[int, int],
    *,
    sampler: str,
    profile: str = "tuned",
    seed: int = 0,
    label: str | None = None,
) -> tuple[Tensor, SamplingInfo]:
    """Draw the latents of given images.

    Parameters
    ----------
    space : LatentSpace
        Of a trained model.
    indices : (start, count), or an iterable of int
        Images, counted from 1.
    sampler : str
        Name of a registered sampler.
    profile : {"tuned", "paper"}
        Settings tuned at the end of training, or the papers'.
    seed : int
        Seed of the set.
    label : str, optional
        The diagnosis, part of the key.

    Returns
    -------
    z : Tensor, shape (n, d)
        float32, on the CPU.
    info : SamplingInfo
        One entry per latent.

    Raises
    ------
    InputError
        If a name is unknown, an index is below 1, or the sampler is not one for this model.
    """
    wanted = _wanted(indices)
    chosen = make_sampler(space, sampler, profile)
    blocks = (wanted - 1) // BLOCK
    z = torch.empty(len(wanted), space.dimension)
    columns = np.full((4, len(wanted)), np.nan)
    n_divergent = 0
    with torch_threads(SAMPLING_THREADS), torch.no_grad():
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            within = (wanted[here] - 1) % BLOCK
            drawn = chosen.draw(block_generator(sampler, profile, seed, label, int(block)), BLOCK)
            z[torch.from_numpy(here)] = drawn.z[torch.from_numpy(within)]
            if drawn.info is not None:
                columns[0, here] = drawn.info.acceptance_rate.numpy()[within]
                columns[1, here] = drawn.info.displacement.numpy()[within]
                columns[2, here], columns[3, here] = drawn.r_hat, drawn.ess
                n_divergent += drawn.info.n_divergent
    acceptance, displacement, r_hat, ess = columns
    ran_chains = not np.isnan(displacement).any()
    stuck, warning = (
        chosen.verdict(acceptance, displacement, r_hat) if ran_chains else (False, None)
    )
    if warning is not None:
        log.warning("%s", warning)
    return z, SamplingInfo(
        wanted, acceptance, displacement, r_hat, ess, n_divergent, stuck, warning, chosen.settings
    )
