"""Draws by name: image i is a function of (model, seed, label, i) alone, and stuck chains are
called so.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuroaug.errors import InputError
from neuroaug.geometry import LearnedMetric, PosteriorMetric, nearest_neighbour_temperature
from neuroaug.registries import FAMILIES, SAMPLERS
from neuroaug.samplers import latents
from neuroaug.samplers.mixture import n_components
from neuroaug.samplers.sampler import SAMPLING_THREADS, Codes, LatentSpace, tune_samplers
from neuroaug.system.threads import torch_threads

D = 3


def codes(n, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def space_of(metric, tuned):
    family = "rhvae" if isinstance(metric, LearnedMetric) else "vae"
    return LatentSpace(family, D, Codes(metric.centroids), metric, tuned)


@pytest.fixture
def rhvae():
    """What the samplers see of a trained RHVAE."""
    n = 40
    factors = 0.8 * torch.eye(D).repeat(n, 1, 1)
    quick = {"n_steps": 8, "n_leapfrog": 3, "step_size": 0.4}
    walk = {"n_steps": 4, "scale": 0.3, "n_geodesic_steps": 5}
    return space_of(
        LearnedMetric(codes(n), factors, 1.0, 1e-2), {"hmc": quick, "random-walk": walk}
    )


@pytest.fixture
def vae():
    means = codes(40)
    return space_of(
        PosteriorMetric(means, torch.full((40, D), 0.3), nearest_neighbour_temperature(means)),
        {"geometric": {"n_steps": 8, "n_leapfrog": 3, "step_size": 0.2}},
    )


def model_for(name, rhvae, vae):
    """Return the first of the two models that the sampler suits; it suits one at least."""
    return next(model for model in (rhvae, vae) if SAMPLERS.get(name).suits(model))


# One in a family's own file needs a model of that family: tests/conformance draws from it.
OF_FAMILIES = set(FAMILIES.modules.values())
GENERAL = [name for name in SAMPLERS.names if SAMPLERS.modules[name] not in OF_FAMILIES]


@pytest.mark.parametrize("name", GENERAL)
def test_any_partition_gives_the_same_bits(rhvae, vae, name):
    model = model_for(name, rhvae, vae)
    n = latents.BLOCK + 20
    whole, info = latents.sample_latents(model, (1, n), sampler=name, seed=3, label="AD")
    assert whole.shape == (n, D)
    assert whole.dtype == torch.float32
    parts = [
        latents.sample_latents(model, piece, sampler=name, seed=3, label="AD")[0]
        for piece in ((1, 7), (8, latents.BLOCK), range(latents.BLOCK + 8, n + 1))
    ]
    assert torch.equal(torch.cat(parts), whole)
    scattered, some = latents.sample_latents(model, [n, 2, 300], sampler=name, seed=3, label="AD")
    assert torch.equal(scattered, whole[[n - 1, 1, 299]])
    np.testing.assert_array_equal(some.indices, [n, 2, 300])
    np.testing.assert_array_equal(some.acceptance_rate, info.acceptance_rate[[n - 1, 1, 299]])


@pytest.mark.parametrize("name", GENERAL)
def test_seed_and_label_are_part_of_the_key(rhvae, vae, name):
    model = model_for(name, rhvae, vae)
    found = [
        latents.sample_latents(model, (1, 4), sampler=name, seed=seed, label=label)[0]
        for seed, label in ((0, "AD"), (1, "AD"), (0, "CN"), (0, None))
    ]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(found[i], found[j])


def test_draws_of_a_set_are_all_different(rhvae):
    z, _ = latents.sample_latents(rhvae, (1, 2 * latents.BLOCK), sampler="hmc")
    assert len(torch.unique(z, dim=0)) == len(z)


def test_threads_of_the_caller_change_nothing_and_are_given_back(rhvae):
    before = torch.get_num_threads()
    try:
        drawn = []
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            drawn.append(latents.sample_latents(rhvae, (1, 5), sampler="hmc")[0])
            assert torch.get_num_threads() == n_threads
        assert torch.equal(*drawn)
        with torch_threads(SAMPLING_THREADS):
            assert torch.get_num_threads() == SAMPLING_THREADS
    finally:
        torch.set_num_threads(before)


def test_chains_end_in_the_ball_and_away_from_their_starts(rhvae):
    z, info = latents.sample_latents(rhvae, (1, 200), sampler="hmc")
    assert float(z.norm(dim=1).max()) <= rhvae.metric.radius * (1 + 1e-6)
    assert np.median(info.displacement) > 0.3
    assert (info.acceptance_rate > 0).mean() > 0.95
    assert info.n_divergent == 0
    assert not info.stuck
    assert info.settings["step_size"] == 0.4


def test_each_block_has_its_diagnostics(rhvae):
    _, info = latents.sample_latents(rhvae, [1, 2, latents.BLOCK + 1], sampler="hmc")
    for values in (info.split_r_hat, info.effective_sample_size):
        assert np.isfinite(values).all()
        assert values[0] == values[1] != values[2]


def test_chains_that_stayed_at_their_centroids_are_called_stuck(rhvae, caplog):
    rhvae.tuned["hmc"] = {"n_steps": 4, "n_leapfrog": 1, "step_size": 1e-4}
    _, info = latents.sample_latents(rhvae, (1, 50), sampler="hmc")
    assert info.stuck
    assert "stayed at their centroids" in info.warning
    assert "stayed at their centroids" in caplog.text


def test_chains_that_moved_but_did_not_mix_are_told(rhvae):
    rhvae.tuned["hmc"] = {"n_steps": 12, "n_leapfrog": 2, "step_size": 0.1}
    _, info = latents.sample_latents(rhvae, (1, 50), sampler="hmc")
    assert not info.stuck
    assert "not mixed" in info.warning


def test_direct_samplers_run_no_chains(rhvae):
    for name in ("prior", "mixture"):
        _, info = latents.sample_latents(rhvae, (1, 5), sampler=name)
        assert np.isnan(info.acceptance_rate).all()
        assert np.isnan(info.displacement).all()
        assert info.warning is None


def test_prior_is_standard_normal(rhvae):
    z, _ = latents.sample_latents(rhvae, (1, 4000), sampler="prior")
    assert z.mean(0).abs().max() < 0.08
    assert (z.std(0) - 1).abs().max() < 0.05


def test_mixture_follows_the_codes(rhvae):
    far_apart = torch.cat([codes(20) * 0.1 - 5, codes(30, 1) * 0.1 + 5])
    rhvae = space_of(LearnedMetric(far_apart, torch.eye(D).repeat(50, 1, 1), 1.0, 1e-2), {})
    z, info = latents.sample_latents(rhvae, (1, 3000), sampler="mixture")
    assert info.settings["n_components"] == 10
    assert float((z[:, 0] > 0).float().mean()) == pytest.approx(0.6, abs=0.05)
    assert z.abs().sub(5).abs().max() < 1


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (4, 1), (10, 2), (49, 9), (50, 10), (453, 10)])
def test_components_of_the_mixture(n, expected):
    assert n_components(n) == expected


def test_paper_profile_is_the_papers_settings(rhvae, vae):
    hmc = latents.make_sampler(rhvae, "hmc", "paper").settings
    assert (hmc["n_steps"], hmc["n_leapfrog"]) == (300, 15)
    assert 0.01 <= hmc["step_size"] <= 0.05
    assert hmc["radius"] == pytest.approx(2 * float(rhvae.metric.centroids.norm(dim=1).max()))
    geometric = latents.make_sampler(vae, "geometric", "paper").settings
    assert (geometric["n_steps"], geometric["n_leapfrog"], geometric["step_size"]) == (
        100,
        10,
        0.01,
    )


def test_tuning_finds_settings_under_which_chains_mix(rhvae, vae, monkeypatch):
    monkeypatch.setattr("neuroaug.geometry.mcmc.tuning.PAPER_WALK_STEPS", 10)
    for model, names in ((rhvae, {"hmc", "random-walk"}), (vae, {"geometric"})):
        found = tune_samplers(model)
        assert set(found) == names
        chosen = found["geometric" if model is vae else "hmc"]
        assert chosen["mixed"]
        assert chosen["acceptance"] > 0.7
        assert chosen["r_hat"] < 1.15
        assert chosen["ess"] >= 10
        assert chosen["n_steps"] * chosen["n_leapfrog"] <= 4500
        for value in chosen.values():
            assert isinstance(value, bool | int | float)
            assert math.isfinite(value)


def test_tuning_is_deterministic_and_done_once(rhvae, monkeypatch):
    monkeypatch.setattr("neuroaug.geometry.mcmc.tuning.GRID", {3: (1.0, 0.7)})
    rhvae.tuned.clear()
    first = latents.make_sampler(rhvae, "hmc").settings
    stored = dict(rhvae.tuned["hmc"])
    assert latents.make_sampler(rhvae, "hmc").settings == first
    rhvae.tuned.clear()
    latents.make_sampler(rhvae, "hmc")
    assert rhvae.tuned["hmc"] == stored


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("geometric", "rhvae", "use --sampler .*hmc"),
        ("hmc", "vae", "use --sampler .*geometric"),
        ("random-walk", "vae", "use --sampler .*geometric"),
        ("gibbs", "rhvae", f"choose one of {', '.join(SAMPLERS.names)}$"),
    ],
)
def test_a_sampler_for_another_model_is_refused_in_one_line(rhvae, vae, name, kind, message):
    with pytest.raises(InputError, match=message) as caught:
        latents.sample_latents(rhvae if kind == "rhvae" else vae, (1, 2), sampler=name)
    assert "\n" not in str(caught.value)


def test_an_untrained_model_is_refused(rhvae):
    rhvae = replace(rhvae, metric=None, codes=None)
    with pytest.raises(InputError, match="train it first"):
        latents.sample_latents(rhvae, (1, 2), sampler="hmc")


@pytest.mark.parametrize("indices", [(0, 3), (1, 0), [], [0]])
def test_images_are_counted_from_one(rhvae, indices):
    with pytest.raises(InputError, match="counted from 1"):
        latents.sample_latents(rhvae, indices, sampler="hmc")


def test_an_unknown_profile_is_refused(rhvae):
    with pytest.raises(InputError, match="choose one of tuned, paper"):
        latents.sample_latents(rhvae, (1, 1), sampler="hmc", profile="fast")
