"""Generalised leapfrog: physics with closed forms, conserved energy, guarded fixed points."""

import math

import pytest
import torch

from neuroaug.geometry import leapfrog
from neuroaug.geometry.metrics import functional


def quadratic(z):
    """Gradient of U(z) = |z|^2 / 2."""
    return z


def energy(state):
    return leapfrog.hamiltonian(0.5 * state.z.square().sum(-1), state)


def run(state, tensors, n_steps, step_size, **settings):
    infos = []
    for _ in range(n_steps):
        state, info = leapfrog.leapfrog_step(state, tensors, quadratic, step_size, **settings)
        infos.append(info)
    return state, infos


@pytest.fixture
def setting(make_learned):
    metric = make_learned(3, n=5)
    g = torch.Generator().manual_seed(1)
    z = metric.centroids[:4] + 0.2 * torch.randn(4, 3, dtype=torch.float64, generator=g)
    v = 0.5 * torch.randn(4, 3, dtype=torch.float64, generator=g)
    return metric.tensors, leapfrog.init(z, v, quadratic(z), metric.tensors)


def test_harmonic_oscillator():
    """Far from all centroids G^-1 = lambda I: z'' = -lambda z, whose solution is known."""
    tensors = functional.from_factors(
        torch.full((1, 2), 1e3).double(), torch.eye(2)[None].double(), 1.0, 0.5
    )
    z, v = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    state, _ = run(leapfrog.init(z, v, quadratic(z), tensors), tensors, 200, 5e-3)
    omega = math.sqrt(0.5)
    expected = z * math.cos(omega) + 0.5 * v * math.sin(omega) / omega
    torch.testing.assert_close(state.z, expected, rtol=1e-5, atol=1e-5)


def test_energy_error_falls_with_the_square_of_the_step(setting):
    tensors, start = setting
    errors = []
    for n_steps in (20, 40):
        end, infos = run(start, tensors, n_steps, 0.4 / n_steps, n_iterations=12)
        assert all(bool(info.converged.all()) for info in infos)
        errors.append(float((energy(end) - energy(start)).abs().max()))
    assert errors[1] < errors[0] / 3


def test_reversible_when_the_fixed_points_are_solved(setting):
    tensors, start = setting
    end, _ = run(start, tensors, 10, 0.02, n_iterations=30)
    back, _ = run(end._replace(v=-end.v), tensors, 10, 0.02, n_iterations=30)
    torch.testing.assert_close(back.z, start.z, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(-back.v, start.v, rtol=1e-9, atol=1e-10)


def test_volume_is_preserved(make_learned):
    metric = make_learned(2, n=4)
    tensors = metric.tensors

    def step(phase):
        z, v = phase[None, :2], phase[None, 2:]
        state = leapfrog.init(z, v, quadratic(z), tensors)
        new, _ = leapfrog.leapfrog_step(state, tensors, quadratic, 0.1, n_iterations=40)
        return torch.cat([new.z[0], new.v[0]])

    phase = torch.tensor([0.3, -0.2, 0.5, 0.4], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(step, phase)
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-9)


def test_one_call_of_the_potential_a_step(setting):
    tensors, start = setting
    calls = []

    def counted(z):
        calls.append(len(z))
        return z

    leapfrog.leapfrog_step(start, tensors, counted, 1e-2)
    assert calls == [4]


def test_gradients_reach_centroids_and_factors():
    centroids = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    factors = torch.eye(2, dtype=torch.float64).repeat(2, 1, 1).requires_grad_()
    tensors = functional.from_factors(centroids, factors, 1.0, 1e-2)
    z = torch.ones(3, 2, dtype=torch.float64)
    state, _ = run(leapfrog.init(z, z, quadratic(z), tensors), tensors, 3, 1e-2)
    energy(state).sum().backward()
    assert torch.isfinite(centroids.grad).all()
    assert centroids.grad.abs().sum() > 0
    assert factors.grad.abs().sum() > 0


def test_a_step_too_large_is_halved_and_said(setting):
    tensors, start = setting
    fast = start._replace(
        v=start.v * torch.tensor([[1.0], [300.0], [1.0], [300.0]], dtype=torch.float64)
    )
    state, info = leapfrog.leapfrog_step(fast, tensors, quadratic, 0.05)
    assert (info.n_halvings[[1, 3]] > 0).all()
    assert (info.n_halvings[[0, 2]] == 0).all()
    assert info.converged.all()
    assert torch.isfinite(state.z).all()
    assert torch.isfinite(state.v).all()


def test_a_trajectory_that_cannot_be_saved_stays_and_is_said(setting):
    tensors, start = setting
    v = start.v.clone()
    v[2] = math.inf
    state, info = leapfrog.leapfrog_step(start._replace(v=v), tensors, quadratic, 0.01)
    assert info.converged.tolist() == [True, True, False, True]
    assert torch.equal(state.z[2], start.z[2])
    assert torch.isfinite(state.z).all()


def test_the_guard_leaves_easy_trajectories_alone(setting):
    """A batch with one hard trajectory gives the others what they get on their own."""
    tensors, start = setting
    alone, _ = leapfrog.leapfrog_step(start, tensors, quadratic, 0.05)
    fast = start._replace(v=torch.cat([start.v[:3], start.v[3:] * 500]))
    together, info = leapfrog.leapfrog_step(fast, tensors, quadratic, 0.05)
    assert info.n_halvings[3] > 0
    torch.testing.assert_close(together.z[:3], alone.z[:3], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("beta_zero_sqrt", [0.3, 1.0])
def test_tempering_runs_from_beta_zero_to_one(beta_zero_sqrt):
    schedule = [leapfrog.tempering_sqrt_beta(k, 3, beta_zero_sqrt) for k in range(4)]
    assert schedule[0] == pytest.approx(beta_zero_sqrt)
    assert schedule[-1] == pytest.approx(1.0)
    assert schedule == sorted(schedule)
    product = math.prod(leapfrog.tempering_factor(k, 3, beta_zero_sqrt) for k in (1, 2, 3))
    assert product == pytest.approx(beta_zero_sqrt)


def test_tempering_is_the_formula_of_algorithm_1():
    assert leapfrog.tempering_sqrt_beta(1, 3, 0.3) == pytest.approx(
        1 / ((1 - 1 / 0.3) / 9 + 1 / 0.3)
    )
