import math

import pytest
import torch
from torch import nn

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.models import RHVAE
from neuroaug.models.autoencoder import TrainingStart
from neuroaug.models.flow import DecoderLikelihood, Noise
from neuroaug.models.networks.heads import Networks
from neuroaug.models.rhvae import EVALUATION_ITERATIONS


def gradient_of(model, x, noise):
    model.zero_grad()
    output = model.loss(x, noise)
    output.loss.backward()
    return output, torch.cat([p.grad.flatten() for p in model.parameters()])


def with_settings(model, **settings):
    model.config = model.config.model_copy(update=settings)
    return model


@pytest.fixture
def model(small_config):
    torch.manual_seed(0)
    return RHVAE(small_config, (9, 13, 11), label="AD", grid="4mm")


# -- linear-Gaussian decoder: log p(x) is known in closed form --------------------------


class LinearEncoder(nn.Module):
    """The exact posterior, made wider and moved: importance weights have something to correct."""

    def __init__(self, weight, bias):
        super().__init__()
        d = weight.shape[1]
        covariance = torch.linalg.inv(torch.eye(d) + weight.T @ weight)
        self.register_buffer("gain", covariance @ weight.T)
        self.register_buffer("bias", bias)
        self.log_variance = nn.Parameter((1.5 * covariance.diagonal()).log())

    def forward(self, x):
        mean = (x.flatten(1) - self.bias) @ self.gain.T + 0.1
        return mean, self.log_variance.expand_as(mean)


class LinearDecoder(nn.Module):
    def __init__(self, weight, bias, shape):
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        self.linear.weight.data, self.linear.bias.data = weight, bias
        self.shape = shape

    def forward(self, z):
        return self.linear(z).unflatten(1, (1, *self.shape))


@pytest.fixture
def linear_gaussian(generator):
    shape, d = (3, 2, 1), 2
    weight = torch.randn(6, d, generator=generator)
    bias = torch.randn(6, generator=generator)
    config = GeneratorConfig(
        latent_dim=d,
        n_leapfrog=3,
        step_size=1e-2,
        beta_zero_sqrt=0.3,
        likelihood="gaussian",
        temperature=0.8,
    )
    networks = Networks(
        LinearEncoder(weight, bias), LinearDecoder(weight, bias, shape), nn.Identity()
    )
    model = RHVAE.from_networks(networks, config, shape, link="identity")
    factors = torch.randn(20, d, d, generator=generator).tril() + torch.eye(d)
    model.metric = LearnedMetric(torch.randn(20, d, generator=generator), factors, 0.8, 1e-2)
    z = torch.randn(4, d, generator=generator)
    x = z @ weight.T + bias + torch.randn(4, 6, generator=generator)
    law = torch.distributions.MultivariateNormal(bias, weight @ weight.T + torch.eye(6))
    return model, x.unflatten(1, (1, *shape)), law.log_prob(x)


def test_importance_weighted_bound_is_the_likelihood_of_a_linear_gaussian_model(
    linear_gaussian, generator
):
    model, x, exact = linear_gaussian
    estimate = model.log_likelihood(x, n_samples=20_000, generator=generator)
    torch.testing.assert_close(estimate, exact, atol=0.02, rtol=0)


def test_the_elbo_lies_below_the_likelihood_on_average(linear_gaussian, generator):
    model, x, exact = linear_gaussian
    draws = torch.stack([model.elbo(x, generator=generator) for _ in range(100)])
    assert (draws.mean(0) < exact).all()
    assert (draws.mean(0) > exact - 5).all()


def test_the_flow_preserves_volume_up_to_its_tempering(linear_gaussian, generator):
    """log |det J| of (z_0, gamma_0) -> (z_K, v_K) under the scaling and the tempering is 0 (METHOD
    3).
    """
    model, x, _ = linear_gaussian
    model = model.double()
    tensors = model.metric.tensors
    x = x[:1].double()

    def move(start):
        z, v = start.split(2)
        likelihood = DecoderLikelihood(model.decoder, model.likelihood, x)
        end = model._flow(tensors, likelihood, z[None], v[None], EVALUATION_ITERATIONS)
        return torch.cat([end.state.z[0], end.state.v[0]])

    start = torch.randn(4, generator=generator, dtype=torch.float64)
    columns, h = [], 1e-6
    for i in range(4):
        shift = h * torch.eye(4, dtype=torch.float64)[i]
        columns.append((move(start + shift) - move(start - shift)) / (2 * h))
    determinant = torch.linalg.det(torch.stack(columns, 1).detach())
    assert abs(math.log(abs(determinant))) < 1e-4


# -- training objective ----------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["published", "elbo"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_every_weight_gets_a_finite_gradient(small_config, images, objective, likelihood):
    config = small_config.model_copy(update={"objective": objective, "likelihood": likelihood})
    model = RHVAE(config, (9, 13, 11))
    output, gradient = gradient_of(model, images, model.draw_noise(len(images)))
    assert output.loss.isfinite()
    assert output.elbo.shape == (7,)
    assert gradient.isfinite().all()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_bound_to_the_letter_is_minus_its_loss(model, images):
    output = with_settings(model, objective="elbo").loss(images, model.draw_noise(7))
    torch.testing.assert_close(-output.loss, output.elbo.mean())


def test_the_training_bound_uses_the_stored_metric_of_the_same_images(model, images):
    """With the batch being the whole training set, the batch's metric is the stored one."""
    noise = model.draw_noise(7)
    model.update_metric([images])
    trained = with_settings(model, objective="elbo").loss(images, noise).elbo
    torch.testing.assert_close(model.elbo(images, noise), trained, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("objective", ["published", "elbo"])
def test_the_second_order_term_hardly_changes_the_gradient(model, images, objective):
    deviation = float((images - images.mean(0)).std())
    model.start_from(
        TrainingStart(images.mean(0)[0], deviation, None, len(images), None)
    )  # as training starts
    noise = model.draw_noise(7)
    _, first = gradient_of(
        with_settings(model, objective=objective, second_order=False), images, noise
    )
    _, second = gradient_of(
        with_settings(model, objective=objective, second_order=True), images, noise
    )
    assert torch.cosine_similarity(first.double(), second.double(), 0) > 0.9999
    assert (first - second).norm() < 1e-2 * second.norm()


def test_second_order_gradient_is_that_of_finite_differences(images):
    """The whole objective, leapfrog and all, in double precision."""
    torch.manual_seed(0)
    config = GeneratorConfig(network="mlp-toy", latent_dim=2, step_size=1e-2, second_order=True)
    model = RHVAE(config, (3, 4, 2)).double()
    # smooth activations, so that finite differences see no kinks
    for network in (model.encoder, model.decoder, model.metric_network):
        for parent in network.modules():
            for name, child in parent.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, nn.Tanh())
    x = images[:3, :, :3, :4, :2].double()
    noise = model.draw_noise(3).to(torch.float64)
    gradient_of(model, x, noise)
    parameters = list(model.parameters())
    direction = [torch.randn_like(p) for p in parameters]
    exact = float(sum((p.grad * v).sum() for p, v in zip(parameters, direction, strict=True)))

    def moved(h):
        with torch.no_grad():
            for p, v in zip(parameters, direction, strict=True):
                p.add_(v, alpha=h)
        value = float(model.loss(x, noise).loss)
        with torch.no_grad():
            for p, v in zip(parameters, direction, strict=True):
                p.add_(v, alpha=-h)
        return value

    assert exact == pytest.approx((moved(1e-6) - moved(-1e-6)) / 2e-6, rel=1e-5)


def test_a_velocity_too_large_for_the_fixed_point_halves_the_step_and_stays_finite(model, images):
    eps, gamma = model.draw_noise(7)
    gamma[0] *= 1e5
    output, gradient = gradient_of(with_settings(model, step_size=0.1), images, Noise(eps, gamma))
    assert output.n_halvings[0] > 0
    assert output.n_halvings[1:].sum() < output.n_halvings[0]
    assert output.loss.isfinite()
    assert gradient.isfinite().all()


def test_bf16_convolutions_keep_the_flow_in_full_precision(model, images):
    noise = model.draw_noise(7)
    exact = model.loss(images, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = model.loss(images, noise)
    lower.loss.backward()
    assert lower.elbo.dtype == torch.float32
    torch.testing.assert_close(lower.elbo, exact.elbo, rtol=1e-2, atol=0)


def test_the_same_noise_gives_the_same_loss(model, images):
    noise = model.draw_noise(7, torch.Generator().manual_seed(3))
    again = model.draw_noise(7, torch.Generator().manual_seed(3))
    assert torch.equal(model.loss(images, noise).loss, model.loss(images, again).loss)


# -- metric ----------------------------------------------------------------------------------------


def test_metric_stands_on_all_training_images_whatever_the_batches(model, images):
    model.update_metric(images.split(3))
    metric = model.metric
    assert metric.centroids.shape == (7, 3)
    torch.testing.assert_close(metric.centroids, model.encode(images)[0], rtol=1e-4, atol=1e-5)
    cometric = metric.cometric_matrix(metric.centroids)
    assert torch.linalg.eigvalsh(cometric).min() >= model.config.regularization
    assert model.radius == pytest.approx(2 * float(metric.centroids.norm(dim=1).max()))


def test_metric_density_is_higher_at_the_data_than_far_away(model, images):
    model.update_metric([images])
    contrast = model.metric_contrast()
    assert contrast.contrast > 0
    assert contrast.at_centroids > contrast.floor + 1
    assert not contrast.collapsed


def test_a_metric_below_its_floor_is_called_dead(model, images):
    model.update_metric([images])
    alive = model.metric
    model.metric = LearnedMetric(
        alive.centroids, 1e-3 * alive.factors, alive.temperature, alive.regularization
    )
    assert model.metric_contrast().collapsed


def test_a_model_without_metric_says_so(model):
    with pytest.raises(InputError, match="no metric yet"):
        _ = model.metric


def test_updating_the_metric_leaves_the_mode_and_weights_alone(model, images):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.update_metric([images])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- images ----------------------------------------------------------------------------------------


def test_images_of_another_grid_are_refused(model):
    with pytest.raises(InputError, match="another grid"):
        model.encode(torch.rand(2, 1, 9, 13, 12))


def test_an_image_is_decoded_alike_however_many_are_asked_for(model, generator):
    z = torch.randn(5, 3, generator=generator)
    images = model.decode(z)
    assert images.shape == (5, 1, 9, 13, 11)
    assert images.min() >= 0
    assert images.max() <= 1
    for n in (1, 2, 4):
        assert torch.equal(model.decode(z[:n]), images[:n])


def test_draws_do_not_depend_on_how_many_are_asked_for(model, images):
    model.update_metric([images])
    three, five = model.sample(3, seed=1), model.sample(5, seed=1)
    assert three.shape == (3, 1, 9, 13, 11)
    assert torch.equal(three, five[:3])
    assert not torch.equal(model.sample(3, seed=2), three)


# -- the reference code ----------------------------------------------------------------------------


@pytest.mark.reference
def test_loss_and_metric_are_the_reference_codes_where_it_is_right(model, images):
    """Small steps: pythae's fixed point takes G^-1 of the old position, which is of second order in
    the step.
    """
    pytest.importorskip("pythae")
    from pythae.models import RHVAE as Pythae
    from pythae.models import RHVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder, BaseMetric

    ours = with_settings(model, step_size=1e-4, second_order=True)

    class Encoder(BaseEncoder):
        def forward(self, x):
            mean, log_variance = ours.encoder(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def forward(self, z):
            return ModelOutput(reconstruction=ours.decoder(z).sigmoid())

    class Metric(BaseMetric):
        def forward(self, x):
            return ModelOutput(L=ours.metric_network(x))

    config = RHVAEConfig(
        input_dim=(1, 9, 13, 11),
        latent_dim=3,
        n_lf=3,
        eps_lf=1e-4,
        beta_zero=0.3,
        temperature=ours.config.temperature,
        regularization=ours.config.regularization,
        reconstruction_loss="bce",
    )
    theirs = Pythae(config, encoder=Encoder(), decoder=Decoder(), metric=Metric())
    theirs.train()
    torch.manual_seed(5)
    expected = theirs({"data": images})
    output = ours.loss(images, Noise(expected.eps0.detach(), expected.gamma.detach()))
    constant = 1.5 * math.log(2 * math.pi)  # pythae leaves it out of log N(v_K)
    torch.testing.assert_close(output.loss, expected.loss + constant, rtol=1e-6, atol=1e-3)

    theirs.update()
    ours.update_metric([images])
    z = torch.randn(5, 3)
    torch.testing.assert_close(
        ours.metric.cometric_matrix(z), theirs.G_inv(z), rtol=1e-5, atol=1e-6
    )
