"""Principal components agree with scikit-learn's, density included."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models import principal_components as pc
from neuroaug.models.linear import LinearModel
from neuroaug.samplers.latents import make_sampler
from neuroaug.training.stored_images import training_start

SHAPE, N, D = (5, 6, 7), 20, 4


@pytest.fixture
def volumes():
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(D, np.prod(SHAPE))) * np.array([4, 3, 2, 1])[:, None]
    flat = 0.5 + 0.03 * (rng.normal(size=(N, D)) @ axes) / D
    flat += 0.01 * rng.normal(size=flat.shape)
    return flat.clip(0, 1).reshape(N, *SHAPE).astype(np.float32)


def model_of(volumes, d=D):
    model = LinearModel(GeneratorConfig(model="linear", latent_dim=d), volumes.shape[1:])
    model.start_from(training_start(volumes, np.arange(len(volumes))))
    return model


def oracle(volumes, d=D):
    return PCA(d, svd_solver="full").fit(volumes.reshape(len(volumes), -1).astype(float))


@pytest.mark.parametrize("block_bytes", [2**28, 4 * 210 * 3])  # all at once; three at a time
def test_components_scores_and_images_are_those_of_scikit_learn(volumes, monkeypatch, block_bytes):
    monkeypatch.setattr(pc, "BLOCK_BYTES", block_bytes)
    model, sklearn = model_of(volumes), oracle(volumes)
    x = torch.from_numpy(volumes)[:, None]
    scores = model.encode(x)[0].detach().numpy()
    expected = sklearn.transform(volumes.reshape(N, -1))
    signs = np.sign((scores * expected).sum(0))
    np.testing.assert_allclose(scores * signs, expected, atol=1e-4)
    again = model.reconstruct(x).detach().numpy().reshape(N, -1)
    np.testing.assert_allclose(again, sklearn.inverse_transform(expected).clip(0, 1), atol=1e-4)


def test_the_bound_is_the_exact_density_of_the_probabilistic_model(volumes):
    """The density with N in the denominators, of which scikit-learn has N - 1."""
    model, sklearn = model_of(volumes), oracle(volumes)
    sklearn.explained_variance_ *= (N - 1) / N
    sklearn.noise_variance_ *= (N - 1) / N * (N - D) / (np.prod(SHAPE) - D)
    # scikit-learn averages what is left out over min(N, V) - d directions, maximum likelihood
    # over V - d.
    new = np.random.default_rng(1).uniform(0, 1, (6, *SHAPE)).astype(np.float32)
    found = model.elbo(torch.from_numpy(new)[:, None]).numpy()
    expected = sklearn.score_samples(new.reshape(6, -1).astype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_no_neighbouring_setting_is_likelier(volumes):
    """Closed form: the gradient of the mean log-density is nought at once."""
    model = model_of(volumes)
    model.loss(torch.from_numpy(volumes)[:, None]).loss.backward()
    for name in ("log_variances",):
        assert getattr(model, name).grad.abs().max() < 1e-2
    assert abs(float(model.encoder.log_variance.grad)) < 0.5  # of 206 directions


def test_it_has_no_standard_prior(volumes):
    model = model_of(volumes)
    model.update_metric([torch.from_numpy(volumes)[:, None]])
    assert model.samplers == ("gaussian", "mixture")
    with pytest.raises(InputError, match="sampler prior: it needs codes whose prior is standard"):
        make_sampler(model.latent_space(), "prior")


def test_a_gaussian_sampler_draws_the_shrunken_law_of_the_codes(volumes):
    from sklearn.covariance import LedoitWolf

    model = model_of(volumes)
    model.update_metric([torch.from_numpy(volumes)[:, None]])
    z, _ = model.sample_latents(20000, "gaussian")
    law = LedoitWolf().fit(model.codes.means.numpy().astype(float))
    np.testing.assert_allclose(
        np.cov(z.numpy().T), law.covariance_, atol=0.05 * law.covariance_.max()
    )
    np.testing.assert_allclose(z.numpy().mean(0), law.location_, atol=0.05)
