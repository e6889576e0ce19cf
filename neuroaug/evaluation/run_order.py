"""Seeds, and the order in which a run sees its images: pure functions of (seed, epoch).

ClinicaDL 2.0.0 leaves both to state: its sampler is seeded 0 whatever the run's seed, and the
trainer sets the epoch on one loader and iterates over another, so that every epoch of every run
has one order. Here nothing depends on what ran before, so a run that was killed goes on exactly.
"""

from __future__ import annotations

import math

import numpy as np

from neuroaug.system.randomness import CLASSIFIER


def run_seed(seed: int, k: int) -> int:
    """Seed of run `k`. Cells share it, so that runs are paired: they start from equal weights."""
    return CLASSIFIER.seed(seed, "run", k)


def permutation(n: int, seed: int, number: int) -> np.ndarray:
    """Pass `number` over `n` images: a permutation that depends on (n, seed, number) alone."""
    return CLASSIFIER.numpy(seed, "order", number).permutation(n)


def epoch_order(n: int, seed: int, epoch: int, n_items: int | None = None) -> np.ndarray:
    """Positions of the images that one epoch shows, in order.

    Parameters
    ----------
    n : int
        Images in the training set.
    seed : int
        The run's seed.
    epoch : int
        Number of the epoch, from 1.
    n_items : int, optional
        Images shown in an epoch. By default all `n`, each once. Otherwise epoch e shows the e-th
        slice of `n_items` of an endless stream of whole passes, so that every image is seen equally
        often, plus or minus one, at any moment.

    Returns
    -------
    ndarray of int
        Shape (n_items,).
    """
    if n_items is None:
        return permutation(n, seed, epoch)
    first, last = (epoch - 1) * n_items, epoch * n_items
    passes = [permutation(n, seed, number) for number in range(first // n, (last - 1) // n + 1)]
    start = first - (first // n) * n
    return np.concatenate(passes)[start : start + n_items]


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Gradient steps of one pass over `n` images."""
    return math.ceil(n / batch_size)


def matched_items(n_real: int, batch_size: int) -> int:
    """Images that a matched cell shows between two validations.

    A matched cell makes the gradient steps of the real-only cell of its split, epochs times
    ceil(n_real / batch), and is validated as often as that cell: its "epoch" is that many full
    batches.
    """
    return steps_per_epoch(n_real, batch_size) * batch_size
