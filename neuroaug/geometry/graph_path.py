"""A first guess of a shortest path: the shortest way over the graph of neighbouring centroids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuroaug.geometry.metrics.base import Metric

MAX_NODES = 300
N_NEIGHBOURS = 12
N_NODES_EDGE = 9


def _edge_lengths(metric: Metric, a: Tensor, b: Tensor) -> Tensor:
    """Length of the straight edges a -> b, (n, d) each, by Simpson's rule."""
    t = torch.linspace(0, 1, N_NODES_EDGE, dtype=a.dtype, device=a.device)
    weights = torch.tensor(
        [1.0, 4.0] + [2.0, 4.0] * ((N_NODES_EDGE - 3) // 2) + [1.0], dtype=a.dtype, device=a.device
    )
    weights = weights / weights.sum()
    positions = a[:, None] + t[None, :, None] * (b - a)[:, None]
    velocities = (b - a)[:, None].expand_as(positions)
    d = a.shape[1]
    squared = metric.squared_norm(velocities.reshape(-1, d), positions.reshape(-1, d))[0]
    return squared.clamp_min(0.0).sqrt().reshape(len(a), -1) @ weights


def resample(points: Tensor, n_points: int, metric: Metric) -> Tensor:
    """Place `n_points` along a broken line, shape (P, d), at constant Riemannian speed."""
    cumulative = torch.cat(
        [points.new_zeros(1), _edge_lengths(metric, points[:-1], points[1:]).cumsum(0)]
    )
    wanted = torch.linspace(
        0, float(cumulative[-1]), n_points, dtype=points.dtype, device=points.device
    )
    index = torch.searchsorted(cumulative, wanted, right=True).clamp(1, len(points) - 1)
    low, high = cumulative[index - 1], cumulative[index]
    t = ((wanted - low) / (high - low).clamp_min(1e-300)).clamp(0, 1).unsqueeze(1)
    curve = torch.lerp(points[index - 1], points[index], t)
    curve[0], curve[-1] = points[0], points[-1]
    return curve


def graph_path(metric: Metric, a: Tensor, b: Tensor, n_points: int) -> Tensor | None:
    """Shortest way from a to b over centroids, each joined to its nearest, as `n_points` points.

    None where there are fewer than two centroids, or where the shortest way is the straight line.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    centroids = getattr(metric, "centroids", None)
    if centroids is None or len(centroids) < 2:
        return None
    chosen = (
        torch.linspace(0, len(centroids) - 1, min(len(centroids), MAX_NODES), device=a.device)
        .round()
        .long()
    )
    nodes = torch.cat([a[None], b[None], centroids.detach()[chosen].to(a)])
    distances = torch.cdist(nodes, nodes)
    n_neighbours = min(N_NEIGHBOURS, len(nodes) - 1)
    nearest = distances.topk(n_neighbours + 1, largest=False).indices[:, 1:]
    rows = torch.arange(len(nodes), device=a.device).repeat_interleave(n_neighbours)
    columns = nearest.reshape(-1)
    weights = _edge_lengths(metric, nodes[rows], nodes[columns]).clamp_min(1e-300)
    graph = coo_matrix(
        (weights.cpu().numpy(), (rows.cpu().numpy(), columns.cpu().numpy())),
        shape=(len(nodes),) * 2,
    )
    cost, before = dijkstra(graph.tocsr(), directed=False, indices=0, return_predecessors=True)
    if not np.isfinite(cost[1]):
        return None
    way = [1]
    while way[-1] != 0:
        way.append(int(before[way[-1]]))
    if len(way) == 2:
        return None
    return resample(nodes[way[::-1]], n_points, metric)
