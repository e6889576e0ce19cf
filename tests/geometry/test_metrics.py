"""The two metrics: laws of a metric, the papers' formulas, what happens far from the data."""

import math

import pytest
import torch

from neuroaug.geometry import LearnedMetric, PosteriorMetric, nearest_neighbour_temperature
from neuroaug.geometry.metrics import functional

DIMS = [1, 2, 5, 10]


def points(metric, n=6, seed=3):
    """Near centroids, at one, between them, and far away."""
    g = torch.Generator().manual_seed(seed)
    near = metric.centroids.double()[:n] + 0.4 * torch.randn(
        n, metric.dim, dtype=torch.float64, generator=g
    )
    far = torch.full((1, metric.dim), 40.0, dtype=torch.float64)
    return torch.cat([near, metric.centroids.double()[:1], far]).to(metric.dtype)


def learned_by_definition(metric, z):
    """G^-1 of TPAMI eq. 8, one term after the other."""
    total = metric.regularization * torch.eye(metric.dim, dtype=z.dtype)
    for c, factor in zip(metric.centroids, metric.factors, strict=True):
        total = total + factor @ factor.T * torch.exp(-((z - c) ** 2).sum() / metric.temperature**2)
    return total


def posterior_by_definition(metric, z):
    """G of GEO eq. 7, one term after the other."""
    total = (
        metric.regularization
        * torch.exp(-metric.decay * (z**2).sum())
        * torch.eye(metric.dim, dtype=z.dtype)
    )
    for mean, variance in zip(metric.means, metric.variances, strict=True):
        precision = torch.diag(1 / variance)
        weight = torch.exp(-(z - mean) @ precision @ (z - mean) / metric.temperature**2)
        total = total + precision * weight
    return total


@pytest.fixture(params=["learned", "posterior"])
def make(request, make_learned, make_posterior):
    return make_learned if request.param == "learned" else make_posterior


@pytest.mark.parametrize("d", DIMS)
def test_symmetric_positive_definite_and_inverse_of_each_other(make, d):
    metric = make(d)
    z = points(metric)
    g, cometric = metric.metric_matrix(z), metric.cometric_matrix(z)
    torch.testing.assert_close(g, g.mT)
    assert (torch.linalg.eigvalsh(g) > 0).all()
    identity = torch.eye(d, dtype=z.dtype).expand_as(g)
    torch.testing.assert_close(g @ cometric, identity, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_learned_cometric_is_eq_8(make_learned, d):
    metric = make_learned(d)
    z = points(metric)
    expected = torch.stack([learned_by_definition(metric, x) for x in z])
    torch.testing.assert_close(metric.cometric_matrix(z), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        metric.log_density(z), 0.5 * torch.logdet(expected), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("d", DIMS)
def test_posterior_metric_is_eq_7(make_posterior, d, decay):
    metric = make_posterior(d, decay=decay)
    z = points(metric)[:-1]
    expected = torch.stack([posterior_by_definition(metric, x) for x in z])
    torch.testing.assert_close(metric.metric_matrix(z), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        metric.log_density(z), 0.5 * torch.logdet(expected), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("d", DIMS)
def test_gradient_is_the_derivative_of_the_log_density(make, d):
    metric = make(d)
    z = points(metric).requires_grad_()
    (expected,) = torch.autograd.grad(metric.log_density(z).sum(), z)
    torch.testing.assert_close(metric.grad_log_density(z.detach()), expected, rtol=1e-9, atol=1e-12)


def test_gradient_of_the_posterior_metric_with_a_decay(make_posterior):
    metric = make_posterior(3, decay=0.2)
    z = points(metric).requires_grad_()
    (expected,) = torch.autograd.grad(metric.log_density(z).sum(), z)
    torch.testing.assert_close(metric.grad_log_density(z.detach()), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_float32_is_right_to_a_thousandth_with_a_large_offset_too(make, spread, make_learned):
    wide = make_learned(5, spread=spread, shift=100.0) if make is make_learned else make(5)
    metric, z = wide.to(dtype=torch.float32), points(wide)
    narrow = wide.to(dtype=torch.float32).to(
        dtype=torch.float64
    )  # the same numbers, known to 24 bits
    for name in ("metric_matrix", "cometric_matrix", "log_density", "grad_log_density"):
        got = getattr(metric, name)(z.float())
        assert got.dtype == torch.float32
        expected = getattr(narrow, name)(z.float().double())
        torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("d", [2, 10])
@pytest.mark.parametrize("regularization", [1e-1, 1e-3, 1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_from_the_data_the_learned_metric_is_flat_to_the_last_digit(
    make_learned, d, regularization, dtype
):
    metric = make_learned(d, regularization=regularization, dtype=dtype)
    z = torch.full((3, d), 1e4, dtype=dtype)
    expected = torch.full((3,), 0.5 * d * math.log(regularization), dtype=dtype)
    torch.testing.assert_close(
        metric.log_density(z), expected, rtol=1e-6 if dtype == torch.float32 else 1e-14, atol=0
    )
    assert (metric.grad_log_density(z) == 0).all()
    identity = torch.eye(d, dtype=dtype).expand(3, d, d)
    torch.testing.assert_close(metric.metric_matrix(z), identity / regularization)


def test_far_from_the_data_the_posterior_metric_is_flat_or_decays(make_posterior):
    z = torch.full((1, 4), 1e3, dtype=torch.float64)
    flat = make_posterior(4).log_density(z)
    torch.testing.assert_close(flat, torch.full_like(flat, 2 * math.log(1e-2)))
    decaying = make_posterior(4, decay=0.5).log_density(z)
    torch.testing.assert_close(
        decaying, torch.full_like(decaying, 2 * (math.log(1e-2) - 0.5 * 4e6))
    )


def test_batched_equals_single_whatever_the_leading_axes(make):
    metric = make(3)
    z = points(metric)[:6].reshape(2, 3, 3)
    for name in ("metric_matrix", "cometric_matrix", "log_density", "grad_log_density"):
        batched = getattr(metric, name)(z)
        assert batched.shape[:2] == (2, 3)
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(
                    batched[i, j], getattr(metric, name)(z[i, j]), rtol=1e-12, atol=1e-14
                )


def test_chunks_do_not_show(make, monkeypatch):
    metric = make(3)
    z = points(metric)
    whole = metric.grad_log_density(z)
    monkeypatch.setattr("neuroaug.geometry.metrics.base.MAX_ELEMENTS", 80)
    torch.testing.assert_close(metric.grad_log_density(z), whole, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("d", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_samplers_kernels_agree_with_the_formulas(make, d, dtype):
    metric = make(d, dtype=dtype)
    exact = metric.to(dtype=torch.float64)
    z, q = points(exact)[:-1], torch.linspace(-1, 1, 7 * d, dtype=torch.float64).reshape(7, d)
    narrow_z, narrow_q = z.to(dtype), q.to(dtype)
    z, q = narrow_z.double(), narrow_q.double()
    evaluator = metric.evaluator(7, dtype)
    tolerance = (
        {"rtol": 1e-3, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-10}
    )

    gradient = evaluator.gradient(narrow_z.T.contiguous()).T.double()
    torch.testing.assert_close(gradient, exact.grad_log_density(z), **tolerance)
    torch.testing.assert_close(evaluator.log_density().double(), exact.log_density(z), **tolerance)
    lowered = evaluator.lower(narrow_z.T.contiguous(), narrow_q.T.contiguous()).T.double()
    torch.testing.assert_close(
        lowered, (exact.metric_matrix(z) @ q[..., None])[..., 0], **tolerance
    )

    leaf = z.clone().requires_grad_()
    energy = 0.5 * torch.einsum("bi,bij,bj->", q, exact.cometric_matrix(leaf), q)
    (slope,) = torch.autograd.grad(energy, leaf)
    velocity, force = evaluator.flow(narrow_z.T.contiguous(), narrow_q.T.contiguous())
    torch.testing.assert_close(
        velocity.T.double(), (exact.cometric_matrix(z) @ q[..., None])[..., 0], **tolerance
    )
    torch.testing.assert_close(force.T.double(), -slope, **tolerance)


def test_centroids_many_temperatures_apart_keep_their_digits_in_single_precision(make_learned):
    metric = make_learned(4, temperature=0.02, dtype=torch.float32)
    z = metric.centroids[:7] + 0.01
    got = metric.evaluator(7, torch.float32).gradient(z.T.contiguous()).T
    torch.testing.assert_close(got, metric.grad_log_density(z), rtol=1e-3, atol=1e-2)


def test_the_samplers_kernel_does_not_clamp_at_the_floor(make_learned):
    metric = make_learned(10, regularization=1e-3, dtype=torch.float32)
    evaluator = metric.evaluator(2, torch.float32)
    evaluator.gradient(torch.full((10, 2), 1e3))
    torch.testing.assert_close(evaluator.log_density(), torch.full((2,), 5 * math.log(1e-3)))


def test_squared_norm_and_its_derivatives(make):
    metric = make(3)
    z, v = points(metric)[:5], torch.linspace(-2, 1, 15, dtype=torch.float64).reshape(5, 3)
    a, b = z.clone().requires_grad_(), v.clone().requires_grad_()
    expected = torch.einsum("bi,bij,bj->b", b, metric.metric_matrix(a), b)
    in_z, in_v = torch.autograd.grad(expected.sum(), (a, b))
    got = metric.squared_norm(v, z)
    for value, right in zip(got, (expected.detach(), in_z, in_v), strict=True):
        torch.testing.assert_close(value, right, rtol=1e-9, atol=1e-11)


def test_autograd_sees_centroids_and_factors():
    centroids = torch.randn(
        3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    factors = torch.eye(2, dtype=torch.float64).repeat(3, 1, 1).requires_grad_()
    metric = LearnedMetric(centroids, factors, 1.0, 1e-2)
    for _ in range(2):  # a second backward pass finds a graph of its own
        metric.log_density(torch.zeros(4, 2, dtype=torch.float64)).sum().backward()
    assert torch.isfinite(centroids.grad).all()
    assert factors.grad.abs().sum() > 0


def test_kinetic_energy_gradient_is_the_partial_derivative(make_learned):
    metric = make_learned(4)
    tensors = metric.tensors
    z = points(metric)[:5].requires_grad_()
    v = torch.linspace(-3, 2, 20, dtype=torch.float64).reshape(5, 4)
    (expected,) = torch.autograd.grad(
        functional.kinetic_energy(functional.local_metric(z, tensors), v).sum(), z
    )
    got = functional.grad_kinetic_energy(functional.local_metric(z.detach(), tensors), tensors, v)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_kinetic_energy_is_minus_the_log_density_of_the_velocity(make_learned):
    metric = make_learned(3)
    z, v = points(metric)[:4], torch.ones(4, 3, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(
        torch.zeros(3, dtype=torch.float64), metric.metric_matrix(z)
    )
    got = functional.kinetic_energy(functional.local_metric(z, metric.tensors), v)
    torch.testing.assert_close(got, -law.log_prob(v))


def test_nearest_neighbour_temperature_is_the_largest_distance_to_a_nearest_neighbour():
    assert nearest_neighbour_temperature(torch.tensor([[0.0], [1.0], [4.0]])) == pytest.approx(3.0)


def test_moving_to_another_precision_keeps_the_metric(make):
    metric = make(3)
    moved = metric.to(dtype=torch.float32)
    assert moved.dtype == torch.float32
    assert (moved.temperature, moved.regularization) == (metric.temperature, metric.regularization)
    z = points(metric)[:2]
    torch.testing.assert_close(
        moved.log_density(z.float()).double(), metric.log_density(z), rtol=1e-5, atol=1e-5
    )


def test_radius_is_twice_the_farthest_centroid(make):
    metric = make(2)
    assert metric.radius == pytest.approx(2 * float(metric.centroids.norm(dim=1).max()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centroids": torch.zeros(3)}, "centroids: expected shape"),
        ({"centroids": torch.zeros(0, 2)}, "centroids: expected shape"),
        ({"factors": torch.eye(2)}, "factors: expected shape"),
        ({"factors": torch.ones(3, 2, 2)}, "lower triangular"),
        ({"factors": torch.eye(2, dtype=torch.float64).repeat(3, 1, 1)}, "one type"),
        ({"centroids": torch.full((3, 2), math.nan)}, "NaN"),
        ({"centroids": torch.zeros(3, 2, dtype=torch.int64)}, "float32 or float64"),
        ({"temperature": 0.0}, "temperature: expected a positive number, got 0.0"),
        ({"regularization": -1.0}, "regularization: expected a positive number"),
        ({"regularization": math.inf}, "regularization: expected a positive number"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(change, message):
    arguments = {
        "centroids": torch.zeros(3, 2),
        "factors": torch.eye(2).repeat(3, 1, 1),
        "temperature": 1.0,
        "regularization": 1e-2,
    }
    with pytest.raises(ValueError, match=message):
        LearnedMetric(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variances": torch.zeros(3, 2)}, "variances: expected positive"),
        ({"variances": torch.ones(2, 2)}, "variances: expected shape"),
        ({"decay": -1.0}, "decay"),
        ({"temperature": math.nan}, "temperature"),
    ],
)
def test_a_posterior_metric_that_cannot_be_is_refused(change, message):
    arguments = {"means": torch.zeros(3, 2), "variances": torch.ones(3, 2), "temperature": 1.0}
    with pytest.raises(ValueError, match=message):
        PosteriorMetric(**{**arguments, **change})


def test_a_point_of_another_dimension_is_refused(make):
    with pytest.raises(ValueError, match="z: expected shape"):
        make(3).log_density(torch.zeros(4, 2, dtype=torch.float64))


def test_a_metric_cannot_be_changed(make):
    with pytest.raises(AttributeError):
        make(2).temperature = 3.0


@pytest.mark.reference
def test_equal_to_the_reference_code(make_learned):
    from types import SimpleNamespace

    from pythae.models.rhvae import rhvae_utils as utils

    metric = make_learned(4)
    z = points(metric)[:5]
    model = SimpleNamespace(
        M_tens=metric.factors @ metric.factors.mT,
        centroids_tens=metric.centroids,
        temperature=metric.temperature,
        lbd=metric.regularization,
        latent_dim=4,
    )
    torch.testing.assert_close(
        metric.cometric_matrix(z), utils.create_inverse_metric(model)(z), rtol=1e-6, atol=1e-9
    )
    torch.testing.assert_close(
        metric.metric_matrix(z), utils.create_metric(model)(z), rtol=1e-5, atol=1e-7
    )
