"""The sampler's benchmark on tiny settings: its rows, and equal effective sample sizes."""

import math
import sys

import pytest

from neuroaug.bench import sampler_speed as sampler


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(sampler, "SIZES", (12,))
    monkeypatch.setattr(sampler, "REFERENCE_STEPS", {False: {12: 2}})
    monkeypatch.setattr(sampler, "PAPER", {"n_steps": 6, "n_leapfrog": 2, "step_size": 0.03})
    monkeypatch.setattr(sampler, "N_REFERENCE", 40)
    monkeypatch.setattr(sampler, "N_ESS_CHAINS", 32)
    monkeypatch.setattr("neuroaug.geometry.mcmc.tuning.N_PILOTS", 32)


def test_without_pythae_the_rows_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pythae.models", None)
    speed, acceptance = sampler._per_image(full=False)
    assert speed["value"] > 0
    assert speed["ratio"] is None
    assert "not installed" in speed["note"]
    assert acceptance["value"] > 0.9


def test_tuned_chains_are_worth_at_least_the_papers(monkeypatch):
    monkeypatch.setattr("neuroaug.geometry.mcmc.tuning.GRID", {3: (0.7,)})
    settings, tuned, paper = sampler.equal_mixing(sampler.random_metric(12))
    assert tuned.ess >= paper.ess
    assert set(settings) == {"n_steps", "n_leapfrog", "step_size"}


@pytest.mark.reference
def test_beside_pythae():
    speed, acceptance = sampler._per_image(full=False)
    assert math.isfinite(speed["reference_value"])
    assert speed["ratio"] == pytest.approx(speed["reference_value"] / speed["value"])
    assert 0 <= acceptance["reference_value"] < acceptance["value"]
