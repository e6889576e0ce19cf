"""Geodesics: exponential map, length, shortest path, and the conformal interpolation.

The exponential map integrates the Hamiltonian flow of H(p, q) = 1/2 q^T G^-1(p) q with the midpoint
rule (OASIS Alg. 2; THESIS Alg. 2): the metric is inverted once, at the start, to turn the velocity
into a momentum. Shortest paths minimise the energy of a broken line with fixed ends, in double
precision.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from neuroaug.geometry.argument_checks import count, require_finite, require_floating, require_shape
from neuroaug.geometry.graph_path import graph_path
from neuroaug.geometry.metrics.base import Evaluator, Metric
from neuroaug.geometry.metrics.conformal import ConformalMetric, line_minimum

N_POINTS = 65
# Gauss-Legendre nodes on each piece of a segment, pieces being at most half a length scale of the
# metric long.
N_NODES = 4
MAX_PIECES = 64
# A path found must be shorter than the straight line by this fraction to be preferred to it.
MIN_GAIN = 1e-9


def midpoint_flow(
    evaluator: Evaluator, p: Tensor, q: Tensor, n_steps: int
) -> tuple[Tensor, Tensor]:
    """Geodesic flow from time 0 to 1 by the midpoint rule; p and q have shape (d, n).

    The midpoint rule is the second-order Runge-Kutta scheme of OASIS Alg. 2.
    """
    dt = 1.0 / n_steps
    for _ in range(n_steps):
        dp, dq = evaluator.flow(p, q)
        half_p, half_q = p + 0.5 * dt * dp, q + 0.5 * dt * dq
        dp, dq = evaluator.flow(half_p, half_q)
        p, q = p + dt * dp, q + dt * dq
    return p, q


def shoot(metric: Metric, z: Tensor, v: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """End of the geodesic from z with velocity v, and the momentum there.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric whose geodesic it is.
    z, v : Tensor, shape (..., d)
        Start and velocity (tangent vector).
    n_steps : int
        Steps of the integrator; its error falls with the square of their number.

    Returns
    -------
    p, q : Tensor, shape (..., d)
        Position and momentum at time 1; ``q^T G^-1(p) q`` equals ``v^T G(z) v`` up to the
        integrator's error.

    Raises
    ------
    ValueError
        If the last axis of `z` is not d, or `n_steps` is less than 1.
    """
    require_floating("z", z)
    if z.shape[-1:] != (metric.dim,):
        raise ValueError(f"z: expected shape (..., {metric.dim}), got {tuple(z.shape)}")
    z, v = torch.broadcast_tensors(z, v)
    flat_z, flat_v = z.detach().reshape(-1, metric.dim), v.detach().reshape(-1, metric.dim)
    q = (metric.metric_matrix(flat_z) @ flat_v.unsqueeze(-1)).squeeze(-1)
    evaluator = metric.evaluator(len(flat_z), z.dtype)
    with torch.no_grad():
        end, momentum = midpoint_flow(
            evaluator, flat_z.T.contiguous(), q.T.contiguous(), count("n_steps", n_steps)
        )
    return end.T.reshape(z.shape), momentum.T.reshape(z.shape)


def exponential_map(metric: Metric, z: Tensor, v: Tensor, n_steps: int = 100) -> Tensor:
    """``Exp_z(v)``, the end of the geodesic from z with velocity v, shape (..., d).

    Parameters and errors as for `shoot`, which also gives the momentum.

    Examples
    --------
    Far from all centroids the metric is flat, and geodesics are straight.

    >>> import torch
    >>> from neuroaug.geometry import LearnedMetric
    >>> metric = LearnedMetric(torch.full((1, 2), 1e3), torch.eye(2)[None], 1.0, 0.25)
    >>> exponential_map(metric, torch.zeros(2), torch.tensor([1.0, -2.0]), n_steps=10)
    tensor([ 1.0000, -2.0000])
    """
    return shoot(metric, z, v, n_steps)[0]


class _Quadrature:
    """Composite Gauss-Legendre rule on [0, 1]: nodes and weights, shape (m,)."""

    def __init__(self, metric: Metric, longest_segment: float, device: torch.device) -> None:
        wanted = longest_segment / (0.5 * metric.length_scale)
        pieces = min(MAX_PIECES, max(1, math.ceil(wanted))) if math.isfinite(wanted) else 1
        nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
        starts = np.arange(pieces)[:, None]
        all_nodes = ((starts + 0.5 * (nodes + 1.0)) / pieces).reshape(-1)
        self.nodes = torch.as_tensor(all_nodes, dtype=torch.float64, device=device)
        self.weights = torch.as_tensor(
            np.tile(0.5 * weights / pieces, pieces), dtype=torch.float64, device=device
        )


def _at_nodes(curve: Tensor, rule: _Quadrature) -> tuple[Tensor, Tensor, Tensor]:
    """Differences (P - 1, d); positions and repeated differences at the nodes, ((P - 1) m, d)."""
    step = curve[1:] - curve[:-1]
    positions = curve[:-1, None] + rule.nodes[None, :, None] * step[:, None]
    repeated = step[:, None].expand_as(positions)
    d = curve.shape[1]
    return step, positions.reshape(-1, d), repeated.reshape(-1, d)


def _check_curve(curve: Tensor, metric: Metric) -> Tensor:
    require_floating("curve", curve)
    if curve.ndim != 2 or len(curve) < 2 or curve.shape[1] != metric.dim:
        raise ValueError(
            f"curve: expected shape (P, {metric.dim}) with P of at least 2, "
            f"got {tuple(curve.shape)}"
        )
    return curve.to(torch.float64)


def length(metric: Metric, curve: Tensor) -> Tensor:
    """``integral of sqrt(c'(t)^T G(c(t)) c'(t)) dt`` along the broken line through the points.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric in which the length is taken.
    curve : Tensor, shape (P, d)
        Points; the curve is straight between them, and is integrated there, not only at the points.

    Returns
    -------
    Tensor, shape ()
        Length, in the type of `curve`.

    Raises
    ------
    ValueError
        If `curve` has another shape.

    Examples
    --------
    Where G = 4 I, a length is twice the Euclidean one.

    >>> import torch
    >>> from neuroaug.geometry import LearnedMetric
    >>> metric = LearnedMetric(torch.full((1, 2), 1e3), torch.eye(2)[None], 1.0, 0.25)
    >>> length(metric, torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor(10.)
    """
    wide = _check_curve(curve, metric)
    rule = _Quadrature(
        metric, float((wide[1:] - wide[:-1]).detach().norm(dim=1).max()), wide.device
    )
    step, positions, velocities = _at_nodes(wide, rule)
    speed = (
        metric.squared_norm(velocities, positions)[0].clamp_min(0.0).sqrt().reshape(len(step), -1)
    )
    return (speed @ rule.weights).sum().to(curve.dtype)


def energy(metric: Metric, curve: Tensor) -> Tensor:
    """``1/2 integral of c'^T G c' dt`` of a broken line, shape (P, d), each segment in equal time.

    At constant speed it is half the squared `length`, and no less otherwise.
    """
    wide = _check_curve(curve, metric)
    rule = _Quadrature(
        metric, float((wide[1:] - wide[:-1]).detach().norm(dim=1).max()), wide.device
    )
    return _energy(metric, wide, rule)[0].to(curve.dtype)


def _energy(metric: Metric, curve: Tensor, rule: _Quadrature) -> tuple[Tensor, Tensor]:
    """Energy of a broken line and its gradient in the points, (P, d), in closed form."""
    step, positions, velocities = _at_nodes(curve, rule)
    n_segments, m = len(step), len(rule.nodes)
    values, in_z, in_v = metric.squared_norm(velocities, positions)
    factor = 0.5 * n_segments * rule.weights
    value = (values.reshape(n_segments, m) @ factor).sum()
    in_z, in_v = in_z.reshape(n_segments, m, -1), in_v.reshape(n_segments, m, -1)
    from_step = torch.einsum("m,smd->sd", factor, in_v)
    at_end = torch.einsum("m,smd->sd", factor * rule.nodes, in_z) + from_step
    at_start = torch.einsum("m,smd->sd", factor * (1.0 - rule.nodes), in_z) - from_step
    gradient = torch.zeros_like(curve)
    gradient[1:] += at_end
    gradient[:-1] += at_start
    return value, gradient


def _descend(metric: Metric, curve: Tensor, max_iterations: int) -> Tensor:
    """Minimise the energy over the inner points by L-BFGS."""
    from scipy.optimize import minimize

    shape = curve[1:-1].shape
    longest = float((curve[1:] - curve[:-1]).norm(dim=1).max())
    rule = _Quadrature(metric, longest, curve.device)
    start_energy = max(float(_energy(metric, curve, rule)[0]), 1e-300)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        inner = torch.as_tensor(flat, dtype=torch.float64, device=curve.device).reshape(shape)
        value, gradient = _energy(metric, torch.cat([curve[:1], inner, curve[-1:]]), rule)
        scaled = gradient[1:-1].reshape(-1).cpu().numpy() / start_energy
        return float(value) / start_energy, scaled

    found = minimize(
        objective,
        curve[1:-1].reshape(-1).cpu().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iterations, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-9},
    )
    inner = torch.as_tensor(found.x, dtype=torch.float64, device=curve.device).reshape(shape)
    return torch.cat([curve[:1], inner, curve[-1:]])


def straight_line(a: Tensor, b: Tensor, n_points: int = N_POINTS) -> Tensor:
    """Return `n_points` equidistant points from a to b, shape (d,) each, as a curve (P, d).

    Examples
    --------
    >>> import torch
    >>> straight_line(torch.zeros(1), torch.ones(1), 3)
    tensor([[0.0000],
            [0.5000],
            [1.0000]])
    """
    t = torch.linspace(0, 1, n_points, dtype=a.dtype, device=a.device).unsqueeze(1)
    line = torch.lerp(a.unsqueeze(0), b.unsqueeze(0), t)
    line[0], line[-1] = a, b
    return line


@torch.no_grad()
def shortest_path(
    metric: Metric, a: Tensor, b: Tensor, *, n_points: int = N_POINTS, max_iterations: int = 500
) -> Tensor:
    """Curve of least energy from a to b, never longer than the straight line.

    The energy is minimised from two starts, the straight line and the shortest way over the graph
    of neighbouring centroids; the shortest result is returned, or the line itself where none is
    shorter. Like any descent it may end in a local minimum.

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric whose energy is minimised.
    a, b : Tensor, shape (d,)
        Ends of the curve.
    n_points : int
        Number P of points.
    max_iterations : int
        Iterations of L-BFGS at most, from each start.

    Returns
    -------
    Tensor, shape (P, d)
        Points at nearly constant Riemannian speed, in the type of `a`.

    Raises
    ------
    ValueError
        If an end has another dimension than the metric or is not finite, or P is less than 2.

    Examples
    --------
    Centroids on a half circle: the path goes around, through the data.

    >>> import torch
    >>> from neuroaug.geometry import LearnedMetric, geodesic
    >>> angle = torch.linspace(0, torch.pi, 12)
    >>> centroids = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    >>> metric = LearnedMetric(centroids, torch.eye(2).repeat(12, 1, 1), 0.5, 1e-3)
    >>> path = geodesic.shortest_path(metric, centroids[0], centroids[-1])
    >>> bool(path.norm(dim=1).min() > 1.7)
    True
    """
    for name, end in (("a", a), ("b", b)):
        require_floating(name, end)
        require_shape(name, end, (metric.dim,))
        require_finite(name, end)
    count("n_points", n_points, 2)
    wide_a, wide_b = a.to(torch.float64), b.to(torch.float64)
    line = straight_line(wide_a, wide_b, n_points)
    best, best_length = line, float(length(metric, line))
    if n_points > 2 and best_length > 0:
        for start in (line, graph_path(metric, wide_a, wide_b, n_points)):
            if start is None:
                continue
            found = _descend(metric, start, max_iterations)
            found_length = (
                float(length(metric, found)) if bool(torch.isfinite(found).all()) else math.inf
            )
            if found_length < best_length * (1.0 - MIN_GAIN):
                best, best_length = found, found_length
    return best.to(a.dtype)


def conformal_length(metric: Metric, curve: Tensor, *, log_scale: float | None = None) -> Tensor:
    """``integral of V(c(t)) |c'(t)| dt`` with V = exp(-log_density) (THESIS eq. 3.8), shape ().

    Parameters
    ----------
    metric : LearnedMetric or PosteriorMetric
        Metric that gives the density; V = 1 / sqrt(det G) for a VAE's metric, sqrt(det G) for the
        learned one.
    curve : Tensor, shape (P, d)
        Points of a broken line.
    log_scale : float, optional
        Logarithm of what V is divided by. None: the minimum of V along the straight line between
        the curve's ends, so that the result is comparable with the Euclidean length. 0: the
        equation as printed.

    Examples
    --------
    Where the density does not change, the scaled length is the Euclidean one.

    >>> import torch
    >>> from neuroaug.geometry import LearnedMetric
    >>> metric = LearnedMetric(torch.full((1, 2), 1e3), torch.eye(2)[None], 1.0, 0.25)
    >>> conformal_length(metric, torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor(5.)
    """
    wide = _check_curve(curve, metric)
    if log_scale is None:
        log_scale = line_minimum(metric, wide[0], wide[-1])
    return length(ConformalMetric(metric, log_scale), wide).to(curve.dtype)


def conformal_path(
    metric: Metric, a: Tensor, b: Tensor, *, n_points: int = N_POINTS, max_iterations: int = 500
) -> Tensor:
    """Interpolate from a to b along high density: the curve of least `conformal_length`, (P, d).

    This minimises THESIS eq. 3.8. GEO eq. 12 leaves out the speed |c'(t)|, and is then minimised by
    waiting at the best point and jumping. Parameters, result and errors as for `shortest_path`, of
    which this is the case of the metric ``V(z)^2 I``.
    """
    require_shape("a", a, (metric.dim,))
    require_shape("b", b, (metric.dim,))
    log_scale = line_minimum(metric, a.to(torch.float64), b.to(torch.float64))
    conformal = ConformalMetric(metric, log_scale)
    return shortest_path(conformal, a, b, n_points=n_points, max_iterations=max_iterations)
