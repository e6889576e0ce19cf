"""Measures: distance to the nearest training image, MMD and PRD on features, F1 of clusterings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

Array = NDArray[np.floating]

PRD_CLUSTERS, PRD_ANGLES, PRD_REPEATS = 20, 1001, 10
PRD_BETA = 8.0
NEAREST = "nearest training image, median"
"""Name of the measure that `nearest_distances` gives."""


def nearest_distances(images: NDArray[np.uint8], training: NDArray[np.uint8]) -> Array:
    """Root mean square distance (N,) of each image to the nearest training image.

    Intensities count in [0, 1].
    """
    flat = [part.reshape(len(part), -1).astype(np.float64) / 255 for part in (images, training)]
    return cdist(*flat).min(1) / np.sqrt(flat[0].shape[1])


def kernel_mmd(first: Array, second: Array) -> float:
    """Unbiased squared MMD of features (N, F) and (M, F), with KID's kernel (x y / F + 1)^3.

    Features should be standardised by those of a common reference set.
    """

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / a.shape[1] + 1) ** 3

    n, m = len(first), len(second)
    own, other = kernel(first, first), kernel(second, second)
    within = (own.sum() - np.trace(own)) / (n * (n - 1))
    within += (other.sum() - np.trace(other)) / (m * (m - 1))
    return float(within - 2 * kernel(first, second).mean())


def precision_recall(real: Array, generated: Array, seed: int = 0) -> tuple[float, float]:
    """PRD of features (Sajjadi et al. 2018): (recall, precision), F_8 and F_1/8 as GEO prints them.

    Both sets are clustered together; the curve compares their histograms over the clusters.

    Parameters
    ----------
    real, generated : ndarray, shape (N, F), (M, F)
        Features. As many of the larger set as the smaller one has are used.
    seed : int
        Seed of the clusterings.
    """
    from sklearn.cluster import MiniBatchKMeans

    n = min(len(real), len(generated))
    rng = np.random.default_rng(seed)
    sets = [part[rng.permutation(len(part))[:n]] for part in (real, generated)]
    curves = []
    for repeat in range(PRD_REPEATS):
        start = seed * PRD_REPEATS + repeat
        clusters = MiniBatchKMeans(PRD_CLUSTERS, n_init=3, random_state=start)
        labels = clusters.fit(np.vstack(sets)).labels_
        p, q = (np.bincount(part, minlength=PRD_CLUSTERS) / n for part in (labels[:n], labels[n:]))
        curves.append(prd_curve(p, q))
    precision, recall = np.mean(curves, axis=0)
    return f_beta(precision, recall, PRD_BETA), f_beta(precision, recall, 1 / PRD_BETA)


def prd_curve(reference: Array, evaluated: Array) -> Array:
    """Precision and recall of two histograms over a range of trade-offs, (2, n)."""
    slopes = np.tan(np.linspace(1e-10, np.pi / 2 - 1e-10, PRD_ANGLES))
    precision = np.minimum(slopes[:, None] * reference, evaluated).sum(1)
    return np.clip(np.stack([precision, precision / slopes]), 0, 1)


def f_beta(precision: Array, recall: Array, beta: float) -> float:
    """Largest F_beta along a curve: recall counts beta times as much as precision."""
    scores = (1 + beta**2) * precision * recall / np.maximum(beta**2 * precision + recall, 1e-12)
    return float(scores.max())


def clustering_f1(truth: NDArray[np.integer], found: NDArray[np.integer]) -> float:
    """Mean F1 over the classes, clusters being named by the assignment that makes it largest.

    Parameters
    ----------
    truth, found : ndarray of int, shape (N,)
        Classes and clusters, counted from 0; as many clusters as classes.
    """
    k = int(max(truth.max(), found.max())) + 1
    table = np.zeros((k, k))
    np.add.at(table, (truth, found), 1)
    f1 = 2 * table / np.maximum(table.sum(1, keepdims=True) + table.sum(0, keepdims=True), 1)
    rows, columns = linear_sum_assignment(-f1)
    return float(f1[rows, columns].sum() / len(np.unique(truth)))
