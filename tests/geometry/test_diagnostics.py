"""R-hat and effective sample size on chains whose answers are known."""

import pytest
import torch

from neuroaug.geometry.mcmc import diagnostics


def autoregressive(rho, n_chains=20, n_samples=2000, seed=0):
    """Stationary chains of variance 1 and lag-one correlation rho."""
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_chains, n_samples, 1, dtype=torch.float64, generator=g)
    chains = noise.clone()
    for t in range(1, n_samples):
        chains[:, t] = rho * chains[:, t - 1] + (1 - rho**2) ** 0.5 * noise[:, t]
    return chains


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressive_chains(rho):
    chains = autoregressive(rho)
    expected = chains.shape[0] * chains.shape[1] * (1 - rho) / (1 + rho)
    assert float(diagnostics.effective_sample_size(chains)) == pytest.approx(expected, rel=0.1)


def test_r_hat_of_chains_that_agree_is_one():
    assert float(diagnostics.split_r_hat(autoregressive(0.3))) == pytest.approx(1.0, abs=0.01)


def test_r_hat_sees_chains_in_different_places():
    chains = autoregressive(0.3)
    chains[::2] += 3
    assert float(diagnostics.split_r_hat(chains)) > 1.5


def test_r_hat_sees_a_common_drift_because_chains_are_split():
    chains = autoregressive(0.0) + torch.linspace(0, 4, 2000, dtype=torch.float64)[None, :, None]
    assert float(diagnostics.split_r_hat(chains)) > 1.3


def test_r_hat_sees_different_scales_because_samples_are_folded():
    chains = autoregressive(0.0)
    chains[::2] *= 5
    assert float(diagnostics.split_r_hat(chains)) > 1.1


def test_ranks_make_heavy_tails_harmless():
    g = torch.Generator().manual_seed(0)
    cauchy = torch.empty(8, 500, 1, dtype=torch.float64).cauchy_(generator=g)
    assert float(diagnostics.split_r_hat(cauchy)) < 1.02
    assert float(diagnostics.effective_sample_size(cauchy)) == pytest.approx(4000, rel=0.2)


def test_chains_that_never_moved_are_called_so():
    chains = torch.arange(6.0).reshape(6, 1, 1).expand(6, 20, 2)
    assert torch.isinf(diagnostics.split_r_hat(chains)).all()
    assert torch.isnan(diagnostics.effective_sample_size(chains)).all()


def test_each_coordinate_has_its_own_figure():
    chains = torch.cat([autoregressive(0.0), autoregressive(0.9)], -1)
    white, red = diagnostics.effective_sample_size(chains)
    assert white > 10 * red
    assert diagnostics.split_r_hat(chains).shape == (2,)


@pytest.mark.parametrize("shape", [(5, 100), (5, 3, 2), (0, 10, 1)])
def test_too_little_to_say_anything_is_refused(shape):
    for function in (diagnostics.split_r_hat, diagnostics.effective_sample_size):
        with pytest.raises(ValueError, match="chains: expected shape"):
            function(torch.zeros(shape))
