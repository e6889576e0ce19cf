"""Geodesics: closed forms, conserved energy, and never longer than the straight line."""

import math

import pytest
import torch

from neuroaug.geometry import LearnedMetric, geodesic
from neuroaug.geometry.metrics.conformal import ConformalMetric


@pytest.fixture(params=["learned", "posterior"])
def metric(request, make_learned, make_posterior):
    if request.param == "learned":
        return make_learned(2, n=8, temperature=0.8, regularization=1e-2, spread=1.3)
    return make_posterior(2, n=8, temperature=1.5, regularization=1e-2)


@pytest.fixture
def flat():
    """Only lambda I is left: all centroids are out of sight."""
    return LearnedMetric(
        torch.full((2, 3), 1e3).double(), torch.eye(3).double().repeat(2, 1, 1), 1.0, 0.25
    )


def speed_squared(metric, z, v):
    return torch.einsum("...i,...ij,...j->...", v, metric.metric_matrix(z), v)


def test_on_a_flat_metric_geodesics_are_straight(flat):
    z, v = torch.zeros(2, 3).double(), torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]).double()
    torch.testing.assert_close(geodesic.exponential_map(flat, z, v, 10), z + v)
    line = geodesic.straight_line(z[0], v[0])
    torch.testing.assert_close(geodesic.length(flat, line), v[0].norm() / math.sqrt(0.25))
    torch.testing.assert_close(geodesic.shortest_path(flat, z[0], v[0]), line)


def test_energy_is_conserved_and_better_with_more_steps(metric):
    z = metric.centroids[:6]
    v = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = speed_squared(metric, z, v)
    drift = []
    for n_steps in (100, 400):
        p, q = geodesic.shoot(metric, z, v, n_steps)
        end = torch.einsum("bi,bij,bj->b", q, metric.cometric_matrix(p), q)
        drift.append(float((end / start - 1).abs().max()))
    assert drift[1] < 1e-4
    assert drift[1] < drift[0] / 8


def test_shooting_twice_half_the_way_is_shooting_once(metric):
    z, v = metric.centroids[:1], torch.tensor([[0.6, -0.4]], dtype=torch.float64)
    middle, momentum = geodesic.shoot(metric, z, v / 2, 500)
    velocity = (metric.cometric_matrix(middle) @ momentum[..., None])[..., 0]
    there = geodesic.exponential_map(metric, middle, velocity, 500)
    torch.testing.assert_close(
        there, geodesic.exponential_map(metric, z, v, 1000), rtol=1e-4, atol=1e-5
    )


def test_a_geodesic_is_as_long_as_its_velocity_says(metric):
    z, v = metric.centroids[0], torch.tensor([0.5, 0.3], dtype=torch.float64)
    t = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
    curve = geodesic.exponential_map(metric, z.expand(60, 2), t * v, 400)
    torch.testing.assert_close(
        geodesic.length(metric, curve), speed_squared(metric, z, v).sqrt(), rtol=1e-3, atol=0
    )


def test_radial_geodesics_of_one_centroid_have_the_length_of_the_integral():
    """G^-1 = (exp(-r^2 / T^2) + lambda) I around one centroid: lengths along rays are integrals of
    one variable.
    """
    metric = LearnedMetric(torch.zeros(1, 2).double(), torch.eye(2)[None].double(), 1.0, 1e-2)
    r = torch.linspace(0, 2, 200001, dtype=torch.float64)
    expected = torch.trapezoid((torch.exp(-(r**2)) + 1e-2).rsqrt(), r)
    ray = geodesic.straight_line(torch.zeros(2).double(), torch.tensor([1.2, 1.6]).double(), 5)
    torch.testing.assert_close(geodesic.length(metric, ray), expected, rtol=1e-7, atol=0)
    velocity = torch.tensor([0.6, 0.8], dtype=torch.float64)
    end = geodesic.exponential_map(metric, torch.zeros(2).double(), velocity, 400)
    assert float(end[0] * 0.8 - end[1] * 0.6) == pytest.approx(0, abs=1e-9)


def test_batched_equals_single(metric):
    z, v = (
        metric.centroids[:6].reshape(2, 3, 2),
        torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(2, 3, 2),
    )
    batched = geodesic.exponential_map(metric, z, v, 30)
    for i in range(2):
        for j in range(3):
            single = geodesic.exponential_map(metric, z[i, j], v[i, j], 30)
            torch.testing.assert_close(single, batched[i, j], rtol=1e-9, atol=1e-11)


def test_shortest_paths_are_no_longer_than_straight_lines(metric):
    n_shorter = 0
    for i, j in ((0, 1), (2, 5), (3, 7)):
        a, b = metric.centroids[i], metric.centroids[j]
        path = geodesic.shortest_path(metric, a, b, n_points=33)
        assert path.shape == (33, 2)
        assert torch.equal(path[0], a)
        assert torch.equal(path[-1], b)
        straight = geodesic.length(metric, geodesic.straight_line(a, b, 33))
        assert geodesic.length(metric, path) <= straight
        n_shorter += int(geodesic.length(metric, path) < 0.9999 * straight)
    assert n_shorter > 0


def test_a_shortest_path_goes_around_through_the_data():
    """Centroids on a half circle: the way along it is cheap, the way across costs 1 / sqrt(lambda)
    a unit.
    """
    angle = torch.linspace(0, math.pi, 12, dtype=torch.float64)
    centroids = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    metric = LearnedMetric(centroids, torch.eye(2).double().repeat(12, 1, 1), 0.5, 1e-3)
    path = geodesic.shortest_path(metric, centroids[0], centroids[-1])
    assert float(path.norm(dim=1).min()) > 1.7
    assert geodesic.length(metric, path) < 0.3 * geodesic.length(metric, path[[0, -1]])
    conformal = geodesic.conformal_path(metric, centroids[0], centroids[-1])
    assert float(conformal.norm(dim=1).min()) > 1.7


def test_a_shortest_path_runs_at_nearly_constant_speed(metric):
    path = geodesic.shortest_path(metric, metric.centroids[2], metric.centroids[5], n_points=33)
    steps = torch.stack([geodesic.length(metric, path[k : k + 2]) for k in range(len(path) - 1)])
    assert float(steps.std() / steps.mean()) < 0.25


def test_conformal_length_is_the_integral_of_eq_3_8(metric):
    a, b = metric.centroids[0], metric.centroids[3]
    line = geodesic.straight_line(a, b)
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    v = torch.exp(-metric.log_density(torch.lerp(a, b, t[:, None])))
    expected = torch.trapezoid(v, t) * (b - a).norm()
    torch.testing.assert_close(
        geodesic.conformal_length(metric, line, log_scale=0.0), expected, rtol=1e-6, atol=0
    )
    scaled = geodesic.conformal_length(metric, line)
    torch.testing.assert_close(scaled, expected / v.min(), rtol=1e-3, atol=0)


def test_conformal_paths_are_no_longer_than_straight_lines(metric):
    a, b = metric.centroids[2], metric.centroids[5]
    path = geodesic.conformal_path(metric, a, b, n_points=33)
    line = geodesic.straight_line(a, b, 33)
    scale = 0.0
    along, straight = (geodesic.conformal_length(metric, c, log_scale=scale) for c in (path, line))
    assert along <= straight


def test_conformal_metric_gradients_are_its_derivatives(metric):
    conformal = ConformalMetric(metric, 1.0)
    z = metric.centroids[:3].clone().requires_grad_()
    v = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    expected = torch.einsum("bi,bij,bj->b", v, conformal.metric_matrix(z), v)
    in_z, in_v = torch.autograd.grad(expected.sum(), (z, v))
    got = conformal.squared_norm(v.detach(), z.detach())
    for value, right in zip(got, (expected.detach(), in_z, in_v), strict=True):
        torch.testing.assert_close(value, right)


def test_ends_that_coincide_give_a_path_of_length_zero(metric):
    a = metric.centroids[0]
    path = geodesic.shortest_path(metric, a, a, n_points=5)
    assert float(geodesic.length(metric, path)) == 0


def test_single_precision_in_single_precision_out(make_learned):
    metric = make_learned(2, dtype=torch.float32)
    path = geodesic.shortest_path(metric, metric.centroids[0], metric.centroids[1], n_points=9)
    assert path.dtype == torch.float32
    assert geodesic.exponential_map(metric, path[0], path[1] - path[0], 20).dtype == torch.float32


def test_input_that_makes_no_sense_is_refused(metric):
    a = metric.centroids[0]
    with pytest.raises(ValueError, match="curve: expected shape"):
        geodesic.length(metric, a)
    with pytest.raises(ValueError, match="b: expected finite"):
        geodesic.shortest_path(metric, a, torch.full_like(a, math.nan))
    with pytest.raises(ValueError, match="n_steps"):
        geodesic.exponential_map(metric, a, a, 0)
    with pytest.raises(ValueError, match="z: expected shape"):
        geodesic.exponential_map(metric, torch.zeros(3).double(), torch.zeros(3).double(), 5)
