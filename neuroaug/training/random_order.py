"""Every random choice of a training run, as a function of (seed, epoch, image) alone.

Nothing here has a state: a run that was killed, moved to another batch size of evaluation or split
over several processes meets the same order and the same noise. Numbers are drawn on the CPU,
whatever device uses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroaug.system.randomness import KEYED

Rows = NDArray[np.intp]


def order(seed: int, epoch: int, n: int) -> Rows:
    """Order in which an epoch visits `n` images."""
    return (
        np.random.Generator(np.random.PCG64(KEYED.seed(seed, "order", epoch)))
        .permutation(n)
        .astype(np.intp)
    )


def batches(rows: Rows, batch_size: int) -> list[Rows]:
    """Cut `rows` into the fewest batches of at most `batch_size`, as even as possible.

    Even ones, because the metric of a training step is that of its batch: a last batch of two or
    three images would have a metric of two or three centroids.
    """
    return np.array_split(rows, -(-len(rows) // batch_size))


def share(rows: Rows, rank: int, world_size: int) -> Rows:
    """The part of a batch that one of several processes computes."""
    return np.array_split(rows, world_size)[rank]


def noise(seed: int, epoch: int | str, rows: Sequence[int] | Rows, latent_dim: int) -> Tensor:
    """Draw standard normal noise for some images.

    Parameters
    ----------
    seed : int
        Seed of the run.
    epoch : int or str
        The epoch; a fixed word for noise that stays the same over epochs.
    rows : sequence of int
        Which images.
    latent_dim : int
        d.

    Returns
    -------
    Tensor, shape (B, 2, d)
        For each image: the noise of the latent and that of the velocity.
    """
    drawn = [
        torch.randn(
            2,
            latent_dim,
            generator=torch.Generator().manual_seed(KEYED.seed(seed, "noise", epoch, int(row))),
        )
        for row in rows
    ]
    return torch.stack(drawn) if drawn else torch.empty(0, 2, latent_dim)


def folds(
    seed: int, participants: Sequence[str], diagnoses: Sequence[str], n_folds: int
) -> NDArray[np.intp]:
    """Deal participants, with all their images, to folds that hold their share of every label.

    Returns
    -------
    array of int, shape (N,)
        Fold of each image. A participant of several labels counts for the first.
    """
    label_of: dict[str, str] = {}
    for name, label in zip(participants, diagnoses, strict=True):
        label_of.setdefault(name, label)
    fold_of: dict[str, int] = {}
    rng = np.random.Generator(np.random.PCG64(KEYED.seed(seed, "folds")))
    for label in sorted(set(label_of.values())):
        names = sorted(name for name, own in label_of.items() if own == label)
        for name in rng.permutation(names).tolist():
            fold_of[name] = len(fold_of) % n_folds
    return np.array([fold_of[name] for name in participants], dtype=np.intp)


def held_out(seed: int, participants: Sequence[str], fraction: float) -> tuple[Rows, Rows]:
    """Set aside a fraction of the participants, with all their images.

    Returns
    -------
    fitted, kept : arrays of int
        Rows to learn from, rows to evaluate the ELBO on; the same rows twice where `fraction` is 0.
    """
    everyone = np.arange(len(participants), dtype=np.intp)
    if fraction == 0:
        return everyone, everyone
    names = sorted(set(participants))
    n_kept = min(max(round(fraction * len(names)), 1), len(names) - 1)
    shuffled = np.random.Generator(np.random.PCG64(KEYED.seed(seed, "held-out"))).permutation(
        len(names)
    )
    chosen = {names[i] for i in shuffled[:n_kept]}
    is_kept = np.array([name in chosen for name in participants])
    return everyone[~is_kept], everyone[is_kept]
