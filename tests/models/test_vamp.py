"""VAMP: its bound by a slow formula, its prior drawn as it was learned, its pseudo-inputs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from neuroaug.models.autoencoder import TrainingStart
from neuroaug.models.flow import Noise
from neuroaug.models.networks.heads import Networks
from neuroaug.models.vae import VAE
from neuroaug.models.vamp import VAMP, VampSampler, VampSettings

SHAPE = (9, 13, 11)


@pytest.fixture
def model(images):
    torch.manual_seed(0)
    model = VAMP(VampSettings(latent_dim=3, width=4, n_pseudo_inputs=4), SHAPE, label="AD")
    model.start_from(TrainingStart(images.mean(0)[0], 0.3, lambda n: images[:n], len(images), None))
    return model


def log_normal(z, mean, log_variance):
    """Log-density of a Gaussian of diagonal covariance, one number, in double precision."""
    terms = (z - mean) ** 2 / np.exp(log_variance) + log_variance + math.log(2 * math.pi)
    return -0.5 * float(terms.sum())


def test_the_loss_is_that_of_a_slow_formula_in_double_precision(model, images):
    x, eps = images[:3], torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    output = model.loss(x, Noise(eps, torch.zeros_like(eps)))
    wide = model.double()
    with torch.no_grad():
        components = [
            [part[0].numpy() for part in wide.encoder(u[None].clamp(0, 1))]
            for u in wide.pseudo_inputs
        ]
        for i in range(3):
            mean, log_variance = (part[0].numpy() for part in wide.encoder(x[i : i + 1].double()))
            z = mean + np.exp(0.5 * log_variance) * eps[i].double().numpy()
            logits = wide.decoder(torch.from_numpy(z)[None])[0].numpy()
            target = x[i].double().numpy()
            log_p = float((target * logits - np.logaddexp(0, logits)).sum())
            prior = [log_normal(z, *component) for component in components]
            log_prior = np.logaddexp.reduce(prior) - math.log(len(prior))
            bound = log_p + log_prior - log_normal(z, mean, log_variance)
            assert float(output.elbo[i]) == pytest.approx(bound, rel=1e-5)
    assert float(output.loss) == pytest.approx(-float(output.elbo.mean()), rel=1e-6)


def test_one_pseudo_input_whose_posterior_is_standard_normal_is_a_plain_vae(generator):
    class Flat(nn.Module):
        """Sends the image that is .5 everywhere to N(0, I)."""

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 4, bias=False)

        def forward(self, x):
            mean, log_variance = self.linear(x.flatten(1) - 0.5).chunk(2, 1)
            return mean, log_variance

    shape, decoder = (3, 2, 1), nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (1, 3, 2, 1)))
    networks = Networks(Flat(), decoder, None)
    vamp = VAMP.from_networks(networks, VampSettings(latent_dim=2, n_pseudo_inputs=1), shape)
    vae = VAE.from_networks(networks, VAE.Settings(latent_dim=2), shape)
    x = torch.rand(5, 1, *shape, generator=generator)
    noise = vamp.draw_noise(5, generator)
    torch.testing.assert_close(vamp.elbo(x, noise), vae.elbo(x, noise))


def test_every_weight_and_every_pseudo_input_gets_a_finite_gradient(model, images):
    model.loss(images).loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())
    assert (model.pseudo_inputs.grad.flatten(1).abs().sum(1) > 0).all()


def test_pseudo_inputs_start_near_training_images(model, images):
    apart = (model.pseudo_inputs - images[:4]).abs().mean()
    assert 0 < apart < 0.06
    assert 0 <= model.pseudo_inputs.min() <= model.pseudo_inputs.max() <= 1


@pytest.mark.parametrize(("n_images", "n"), [(3, 1), (24, 4), (250, 50), (5000, 50)])
def test_there_are_a_fifth_as_many_pseudo_inputs_as_images(n_images, n):
    assert VampSettings().for_images(n_images).n_pseudo_inputs == n
    assert VampSettings(n_pseudo_inputs=7).for_images(n_images).n_pseudo_inputs == 7


def test_samples_follow_the_prior_that_the_loss_has(model, images):
    model.update_metric([images])
    sampler = VampSampler(model.latent_space())
    z = sampler.draw(torch.Generator().manual_seed(0), 20_000).z
    means, variances = (model.sampler_tensors["vamp"][part] for part in ("means", "variances"))
    torch.testing.assert_close(z.mean(0), means.mean(0), atol=0.03, rtol=0)
    spread = variances.mean(0) + means.var(0, unbiased=False)
    torch.testing.assert_close(z.var(0), spread, atol=0.05, rtol=0.05)
    with torch.no_grad():
        mean, log_variance = model.encode(model.pseudo_inputs.clamp(0, 1))
    torch.testing.assert_close(means, mean)
    torch.testing.assert_close(variances, log_variance.exp())


def test_a_saved_model_samples_what_it_did(model, images, tmp_path):
    model.update_metric([images])
    model.save(tmp_path)
    loaded = VAMP.load(tmp_path)
    assert torch.equal(loaded.sample(3), model.sample(3))
    assert loaded.samplers == model.samplers
    assert {"geometric", "mixture", "prior", "vamp"} <= set(loaded.samplers)
    assert not {"hmc", "random-walk"} & set(loaded.samplers)  # they need a learned metric
