"""SLIDES: k-medoids of latent codes with Riemannian and with Euclidean distances."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from neuroaug.geometry import LearnedMetric, geodesic
from neuroaug.published import trained_generators
from neuroaug.published.measures import clustering_f1
from neuroaug.published.run_scores import PERCENT, Score
from neuroaug.published.table_run import TableRun

N_NEIGHBOURS = 12
N_STARTS, N_ROUNDS = 20, 50


def table(run: TableRun) -> list[Score]:
    """F1 of both clusterings of one RHVAE's codes, from the same starts."""
    subset = run.subset
    key = {
        "what": "clustering",
        "model": trained_generators.identity(run.model_settings("rhvae")),
        "train": subset.train.sha256(),
        "seed": run.seed,
    }

    def compute() -> dict[str, float]:
        model = run.model_of_all("rhvae")
        codes = model.centroids
        straight = torch.cdist(codes.double(), codes.double()).numpy()
        curved = geodesic_distances(model.metric, codes)
        truth, k = subset.train.labels, subset.n_classes
        return {
            "linear": clustering_f1(truth, k_medoids(straight, k, run.seed)),
            "geodesic": clustering_f1(truth, k_medoids(curved, k, run.seed)),
        }

    found = run.memo.value(key, compute)
    return [run.score(row, "F1", PERCENT * value) for row, value in found.items()]


def geodesic_distances(metric: LearnedMetric, points: Tensor) -> NDArray[np.float64]:
    """Riemannian distances (N, N) of points (N, d), along their graph of nearest neighbours.

    Edges are straight and have their length under the metric; the shortest way over the graph is at
    least as long as the geodesic and nears it as points grow dense. Neighbours are those of the
    Euclidean distance.
    """
    wide = points.detach().double()
    flat = torch.cdist(wide, wide)
    nearest = flat.topk(min(N_NEIGHBOURS + 1, len(wide)), largest=False).indices[:, 1:].numpy()
    pairs = {(min(i, int(j)), max(i, int(j))) for i, row in enumerate(nearest) for j in row}
    # A tree that joins everything keeps the graph in one piece.
    pairs |= set(_spanning_pairs(flat.numpy()))
    rows, columns = np.array(sorted(pairs)).T
    edges = torch.stack([wide[rows], wide[columns]], 1)
    lengths = [float(geodesic.length(metric, edge)) for edge in edges]
    graph = coo_matrix((np.maximum(lengths, 1e-300), (rows, columns)), shape=flat.shape)
    return dijkstra(graph.tocsr(), directed=False)


def _spanning_pairs(distances: NDArray[np.float64]) -> list[tuple[int, int]]:
    from scipy.sparse.csgraph import minimum_spanning_tree

    tree = minimum_spanning_tree(np.maximum(distances, 1e-300)).tocoo()
    ends = np.sort(np.stack([tree.row, tree.col], axis=1), axis=1).tolist()
    return [(first, second) for first, second in ends]


def k_medoids(distances: NDArray[np.float64], k: int, seed: int) -> NDArray[np.int64]:
    """Clusters (N,) of the least total distance to k medoids, the best of several random starts.

    Parameters
    ----------
    distances : ndarray, shape (N, N)
        A symmetric matrix of distances between the points.
    k : int
        Number of clusters.
    seed : int
        Seed of the starts: two calls with one seed start from the same points.
    """
    rng = np.random.default_rng(seed)
    best_cost, best = np.inf, np.zeros(len(distances), dtype=np.int64)
    for _ in range(N_STARTS):
        medoids = rng.choice(len(distances), k, replace=False)
        for _ in range(N_ROUNDS):
            cluster = distances[:, medoids].argmin(1)
            moved = medoids.copy()
            for j in range(k):
                members = np.flatnonzero(cluster == j)
                if len(members):
                    moved[j] = members[distances[np.ix_(members, members)].sum(1).argmin()]
            if np.array_equal(moved, medoids):
                break
            medoids = moved
        cost = float(distances[:, medoids].min(1).sum())
        if cost < best_cost:
            best_cost, best = cost, distances[:, medoids].argmin(1)
    return best
