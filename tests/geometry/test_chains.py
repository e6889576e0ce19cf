"""HMC: its law, its bookkeeping, and every flag fired once."""

import math

import pytest
import torch

from neuroaug.geometry import LearnedMetric
from neuroaug.geometry.mcmc import hmc, random_walk

N_CELLS = 10


def occupancy(z, radius):
    """Share of points in each cell of a grid over the square around the ball."""
    edges = torch.linspace(-radius, radius, N_CELLS + 1, dtype=torch.float64)[1:-1]
    cell = [torch.bucketize(z[:, k].double().contiguous(), edges) for k in range(2)]
    counts = torch.bincount(cell[0] * N_CELLS + cell[1], minlength=N_CELLS**2).double()
    return counts / counts.sum()


def target_occupancy(metric, radius):
    """The density integrated over the same cells."""
    axis = torch.linspace(-radius, radius, 20 * N_CELLS + 1, dtype=torch.float64)
    axis = 0.5 * (axis[1:] + axis[:-1])
    z = torch.cartesian_prod(axis, axis)
    mass = metric.log_density(z).exp() * (z.norm(dim=1) <= radius)
    edges = torch.linspace(-radius, radius, N_CELLS + 1, dtype=torch.float64)[1:-1]
    cell = torch.bucketize(z[:, 0].contiguous(), edges) * N_CELLS + torch.bucketize(
        z[:, 1].contiguous(), edges
    )
    return torch.zeros(N_CELLS**2, dtype=torch.float64).index_add_(0, cell, mass) / mass.sum()


def total_variation(p, q):
    return 0.5 * float((p - q).abs().sum())


def noise_floor(target, n):
    """Mean total variation of n independent samples, seeded."""
    g = torch.Generator().manual_seed(0)
    samples = [torch.multinomial(target, n, replacement=True, generator=g) for _ in range(20)]
    return (
        sum(total_variation(torch.bincount(x, minlength=len(target)) / n, target) for x in samples)
        / 20
    )


def starts(metric, n):
    return metric.centroids[torch.arange(n) % metric.n_centroids]


@pytest.mark.parametrize("kind", ["learned", "posterior"])
@pytest.mark.parametrize("seed", [0, 1])
def test_samples_follow_the_density(make_learned, make_posterior, generator, kind, seed):
    metric = (
        make_learned(2, n=6, temperature=0.8, seed=seed)
        if kind == "learned"
        else make_posterior(2, n=6, seed=seed)
    )
    z, info = hmc.sample(
        metric.to(dtype=torch.float32),
        starts(metric, 2048).float(),
        n_steps=80,
        n_leapfrog=8,
        step_size=0.2,
        generator=generator,
        radius=metric.radius,
    )
    target = target_occupancy(metric, metric.radius)
    assert total_variation(occupancy(z, metric.radius), target) < 1.4 * noise_floor(target, 2048)
    assert info.n_divergent == 0


def test_acceptance_at_ten_dimensions_where_the_reference_gradient_collapses(
    make_learned, generator
):
    metric = make_learned(10, n=50, temperature=1.5, dtype=torch.float32)
    _, info = hmc.sample(
        metric,
        starts(metric, 128),
        n_steps=20,
        n_leapfrog=15,
        step_size=0.03,
        generator=generator,
        radius=metric.radius,
    )
    assert float(info.acceptance_rate.mean()) > 0.97
    assert float(info.displacement.median()) > 0.5


def test_a_step_too_large_is_rejected_by_the_energy(make_learned, generator):
    metric = make_learned(4, dtype=torch.float64)
    _, info = hmc.sample(
        metric, starts(metric, 64), n_steps=5, n_leapfrog=5, step_size=3.0, generator=generator
    )
    assert float(info.acceptance_rate.mean()) < 0.9


def test_chains_never_leave_the_ball(make_learned, generator):
    metric = make_learned(3, dtype=torch.float32)
    radius = 1.05 * float(metric.centroids.norm(dim=1).max())
    for sample, extra in (
        (hmc.sample, {"n_leapfrog": 5, "step_size": 0.3}),
        (random_walk.sample, {"scale": 0.5}),
    ):
        _, info = sample(
            metric,
            starts(metric, 40),
            n_steps=20,
            generator=generator,
            radius=radius,
            trace=True,
            **extra,
        )
        assert float(info.trace.norm(dim=-1).max()) <= radius * (1 + 1e-6)
        assert info.n_outside > 0


SAMPLERS = [
    (hmc.sample, {"n_leapfrog": 5, "step_size": 0.2}),
    (random_walk.sample, {"scale": 0.5}),
    (random_walk.sample, {"scale": 0.5, "corrected": True}),
]


@pytest.mark.parametrize(("sample", "settings"), SAMPLERS)
@pytest.mark.parametrize("kind", ["learned", "posterior"])
def test_chains_that_start_outside_the_ball_enter_it_and_stay(
    make_learned, make_posterior, generator, sample, settings, kind
):
    metric = (make_learned if kind == "learned" else make_posterior)(2, n=6)
    direction = torch.nn.functional.normalize(metric.centroids, dim=1).repeat(40, 1)
    _, info = sample(
        metric,
        1.02 * direction,
        n_steps=40,
        generator=generator,
        radius=1.0,
        trace=True,
        **settings,
    )
    within = info.trace.norm(dim=-1) <= 1.0
    assert within[:, -1].all()
    assert (within[:, 1:] >= within[:, :-1]).all()  # once inside, always inside
    assert not within[:, 0].all()
    # The target is zero outside: such a chain stays where it is until it enters.
    assert torch.equal(torch.isneginf(info.log_density_trace), ~within)
    waiting = info.trace[~within]
    torch.testing.assert_close(waiting.norm(dim=1), torch.full((len(waiting),), 1.02).double())


@pytest.mark.parametrize(("sample", "settings"), SAMPLERS)
def test_a_chain_enters_the_ball_whatever_the_density(generator, sample, settings):
    """The starts lie at a centroid, the ball where the density is flat and ten times less."""
    metric = LearnedMetric(torch.tensor([[2.0, 0.0]]), torch.eye(2)[None], 0.5, 0.1)
    initial = metric.centroids.repeat(512, 1)
    _, info = sample(metric, initial, n_steps=1, generator=generator, radius=1.5, **settings)
    n_entered = int(info.acceptance_rate.sum())
    assert n_entered > 10
    assert n_entered + info.n_outside + info.n_divergent == 512


def test_without_a_radius_chains_may_go_anywhere(make_learned, generator):
    metric = make_learned(2, dtype=torch.float64, regularization=1.0)
    z, _ = hmc.sample(
        metric, starts(metric, 64), n_steps=100, n_leapfrog=5, step_size=0.5, generator=generator
    )
    assert float(z.norm(dim=1).max()) > metric.radius


def test_a_start_that_is_not_a_number_stays_and_is_counted(make_learned, generator):
    metric = make_learned(3)
    initial = starts(metric, 4).clone()
    initial[1] = math.nan
    for sample, extra in (
        (hmc.sample, {"n_leapfrog": 3, "step_size": 0.1}),
        (random_walk.sample, {"scale": 0.1}),
    ):
        z, info = sample(metric, initial, n_steps=5, generator=generator, **extra)
        assert info.n_divergent == 5
        assert info.acceptance_rate[1] == 0
        assert torch.isnan(z[1]).all()
        assert torch.isfinite(z[[0, 2, 3]]).all()
        assert (info.acceptance_rate[[0, 2, 3]] > 0).all()


def test_an_overflowing_trajectory_is_divergent_and_rejected(make_learned, generator):
    metric = make_learned(3, dtype=torch.float32)
    initial = starts(metric, 8)
    z, info = hmc.sample(
        metric, initial, n_steps=3, n_leapfrog=2, step_size=1e30, generator=generator
    )
    assert info.n_divergent == 24
    assert torch.equal(z, initial)
    assert (info.displacement == 0).all()


def test_an_energy_error_beyond_all_measure_is_divergent(generator):
    steep = LearnedMetric(
        torch.zeros(1, 1), torch.full((1, 1, 1), 1e18), temperature=1e-3, regularization=1e-30
    )
    _, info = hmc.sample(
        steep,
        torch.full((16, 1), 1e-4),
        n_steps=4,
        n_leapfrog=1,
        step_size=0.5,
        generator=generator,
    )
    assert info.n_divergent > 0


def test_equal_generators_equal_samples_and_workers_do_not_matter(make_learned):
    metric = make_learned(4, dtype=torch.float32)

    def draw(workers, seed=5):
        g = torch.Generator().manual_seed(seed)
        return hmc.sample(
            metric,
            starts(metric, 600),
            n_steps=4,
            n_leapfrog=3,
            step_size=0.2,
            generator=g,
            n_workers=workers,
        )[0]

    one = draw(1)
    assert torch.equal(one, draw(1))
    assert torch.equal(one, draw(3))
    assert not torch.equal(one, draw(1, seed=6))


def test_the_callers_threads_are_left_as_they_were(make_learned, generator):
    torch.set_num_threads(2)
    metric = make_learned(2)
    hmc.sample(
        metric, starts(metric, 600), n_steps=1, n_leapfrog=1, step_size=0.1, generator=generator
    )
    assert torch.get_num_threads() == 2


def test_info_tells_what_happened(make_learned, generator):
    metric = make_learned(3)
    initial = starts(metric, 10)
    before = initial.clone()
    z, info = hmc.sample(
        metric,
        initial,
        n_steps=6,
        n_leapfrog=4,
        step_size=0.2,
        generator=generator,
        radius=metric.radius,
        trace=True,
    )
    assert torch.equal(initial, before)
    assert info.trace.shape == (10, 6, 3)
    assert torch.equal(info.trace[:, -1], z)
    torch.testing.assert_close(info.log_density_trace, metric.log_density(info.trace))
    torch.testing.assert_close(info.displacement, (z - initial).norm(dim=1))
    assert info.acceptance_rate.shape == (10,)
    assert ((info.acceptance_rate * 6) % 1 == 0).all()


def test_no_chains_no_samples(make_learned, generator):
    z, info = hmc.sample(
        make_learned(3),
        torch.zeros(0, 3),
        n_steps=2,
        n_leapfrog=2,
        step_size=0.1,
        generator=generator,
    )
    assert z.shape == (0, 3)
    assert info.acceptance_rate.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial": torch.zeros(4, 2)}, "initial: expected shape"),
        ({"initial": torch.zeros(3)}, "initial: expected shape"),
        ({"n_steps": 0}, "n_steps: expected an integer of at least 1"),
        ({"n_leapfrog": 1.5}, "n_leapfrog: expected an integer"),
        ({"step_size": 0.0}, "step_size: expected a positive number"),
        ({"radius": -1.0}, "radius: expected a positive number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_learned, generator, change, message):
    arguments = {
        "initial": torch.zeros(4, 3),
        "n_steps": 1,
        "n_leapfrog": 1,
        "step_size": 0.1,
        "radius": None,
    }
    arguments.update(change)
    with pytest.raises(ValueError, match=message):
        hmc.sample(make_learned(3), arguments.pop("initial"), generator=generator, **arguments)


def test_the_corrected_random_walk_follows_the_density_and_the_printed_one_does_not(
    make_learned, generator
):
    metric = make_learned(2, n=5, temperature=1.0, regularization=5e-2, seed=3)
    target = target_occupancy(metric, metric.radius)
    distance = {}
    for corrected in (True, False):
        z, _ = random_walk.sample(
            metric.to(dtype=torch.float32),
            starts(metric, 1024).float(),
            n_steps=120,
            scale=0.7,
            n_geodesic_steps=8,
            generator=generator,
            radius=metric.radius,
            corrected=corrected,
        )
        distance[corrected] = total_variation(occupancy(z, metric.radius), target)
    assert distance[True] < 1.5 * noise_floor(target, 1024)
    assert distance[False] > 2 * distance[True]


def test_on_a_flat_metric_the_random_walk_is_a_plain_one(generator):
    metric = LearnedMetric(
        torch.full((1, 3), 1e3), torch.eye(3)[None], temperature=1.0, regularization=0.1
    )
    z, info = random_walk.sample(
        metric, torch.zeros(1000, 3), n_steps=4, scale=0.5, generator=generator
    )
    assert (info.acceptance_rate == 1).all()
    assert float(z.std()) == pytest.approx(0.5 * 2, rel=0.05)


def test_the_random_walk_is_reproducible(make_posterior):
    metric = make_posterior(3, dtype=torch.float32)
    samples = [
        random_walk.sample(
            metric,
            starts(metric, 20),
            n_steps=3,
            scale=0.2,
            generator=torch.Generator().manual_seed(1),
        )[0]
        for _ in range(2)
    ]
    assert torch.equal(*samples)
