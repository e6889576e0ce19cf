"""``morph``: a template moved by exponentials of velocities; volumes, bounds, training."""

import numpy as np
import pandas as pd
import pytest
import torch

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models import RHVAE, VAE
from neuroaug.models.networks.morph import (
    MOST_GAIN,
    MorphDecoder,
    exponential,
    volume_change,
)
from neuroaug.training.stored_images import training_start
from neuroaug.training.train import train

SHAPE = (18, 16, 14)


def positions(shape):
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def test_the_exponential_of_a_linear_velocity_is_the_matrix_exponential():
    shape = (21, 21, 21)
    x = positions(shape)
    centre = torch.tensor([10.0, 10.0, 10.0], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    a = torch.tensor([[0.05, -0.1, 0.0], [0.1, 0.02, 0.0], [0.0, 0.0, -0.06]], dtype=torch.float64)
    velocity = torch.einsum("ij,bjxyz->bixyz", a, x - centre)
    u = exponential(velocity, squarings=8)
    expected = torch.einsum("ij,bjxyz->bixyz", torch.linalg.matrix_exp(a), x - centre) + centre
    inner = (slice(None), slice(None), *[slice(7, 14)] * 3)
    torch.testing.assert_close((x + u)[inner], expected[inner], atol=0.02, rtol=0)
    volumes = volume_change(u)[:, 7:14, 7:14, 7:14]
    torch.testing.assert_close(
        volumes, torch.full_like(volumes, float(torch.exp(torch.trace(a)))), atol=0.02, rtol=0
    )


def test_a_velocity_and_its_negative_undo_each_other():
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(1, 3, 5, 5, 5, generator=generator, dtype=torch.float64)
    velocity = torch.nn.functional.interpolate(rough, size=(24, 24, 24), mode="trilinear")
    there, back = exponential(velocity), exponential(-velocity)
    from neuroaug.models.networks.morph import _read_at

    both = there + _read_at(back, there)
    inner = (..., slice(6, -6), slice(6, -6), slice(6, -6))
    assert float(both[inner].abs().mean()) < 0.1 * float(there[inner].abs().mean())
    assert float(there.abs().mean()) > 0.3


def test_the_code_nought_is_the_mean_image():
    decoder = MorphDecoder(3, SHAPE)
    mean = torch.rand(SHAPE) * 0.8 + 0.1
    decoder.centre_on(mean, 0.1)
    torch.testing.assert_close(decoder(torch.zeros(2, 3)).sigmoid()[0, 0], mean, atol=1e-5, rtol=0)


def test_gain_and_offset_are_bounded_whatever_the_code():
    decoder = MorphDecoder(2, SHAPE).eval()
    decoder.centre_on(torch.full(SHAPE, 0.9), 0.1)
    with torch.no_grad():
        decoder.velocity.zero_()
        decoder.gain.fill_(1e3)
    logits = decoder(torch.full((1, 2), 5.0))
    plain = decoder(torch.zeros(1, 2))
    assert float((logits / plain).max()) <= 1 + MOST_GAIN + 1e-5


def test_a_fold_costs_and_its_gradient_unfolds_it():
    decoder = MorphDecoder(1, SHAPE).train()
    with torch.no_grad():
        decoder.velocity.zero_()
        ramp = torch.linspace(-1, 1, decoder.nodes[0])[:, None, None]
        decoder.velocity[0, 0] = -3 * torch.sign(ramp) * (1 - ramp.abs())  # towards the middle
    z = torch.ones(1, 1)
    decoder(z)
    first = decoder.penalty()
    assert float(first) > 0
    assert decoder.penalty() == 0  # told once
    first.backward()
    with torch.no_grad():
        decoder.velocity -= 0.02 * decoder.velocity.grad / decoder.velocity.grad.abs().max()
    decoder(z)
    assert float(decoder.penalty()) < float(first)
    with torch.no_grad():
        decoder.velocity.zero_()
    decoder(z)
    assert float(decoder.penalty()) == 0


def balls(n, seed=0):
    """One sharp ball, of varying place and size: a shape, which painting blurs."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(k) for k in SHAPE), indexing="ij")
    images = []
    for _ in range(n):
        centre = np.array(SHAPE) / 2 + rng.uniform(-1.5, 1.5, 3)
        radius = rng.uniform(3, 4.5)
        far = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
        images.append(1 / (1 + np.exp(2 * (far - radius))))
    return np.stack(images).astype(np.float32)


@pytest.mark.parametrize("model", ["vae", "rhvae"])
def test_it_trains_in_every_family_and_reads_back(tmp_path, model):
    x = balls(12)
    people = pd.DataFrame(
        {
            "participant_id": [f"sub-{i:02d}" for i in range(12)],
            "session_id": "ses-M000",
            "diagnosis": "AD",
            "image_sha256": [f"{i:064x}" for i in range(12)],
            "split": "train",
            "split_hash": "a",
        }
    )
    config = GeneratorConfig(
        model=model, network="morph", width=2, latent_dim=4, batch_size=6, max_epochs=25
    )
    trained = train(
        x,
        config=config,
        label="AD",
        out=tmp_path / "m",
        lineage=people,
        split_hash="a",
        device="cpu",
        tune=False,
        say=lambda text: None,
    )
    history = np.genfromtxt(tmp_path / "m" / "history.csv", delimiter=",", names=True)
    assert history["elbo"][-1] > history["elbo"][0]
    again = (RHVAE if model == "rhvae" else VAE).load(tmp_path / "m")
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.decode(z), trained.decode(z))


def test_images_in_two_dimensions_move_in_their_plane():
    decoder = MorphDecoder(2, (16, 18, 1))
    with torch.no_grad():
        decoder.velocity.normal_()
    moved = decoder.displacement(torch.ones(1, 2))
    assert torch.isfinite(moved).all()
    assert decoder(torch.ones(1, 2)).shape == (1, 1, 16, 18, 1)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="network morph has no second derivative"):
        RHVAE(GeneratorConfig(network="morph", second_order=True), SHAPE)
    with pytest.raises(InputError, match="network morph does not begin with components"):
        VAE(GeneratorConfig(network="morph", start="components"), SHAPE)


def test_it_starts_from_the_mean_of_its_images():
    x = balls(5)
    model = VAE(GeneratorConfig(network="morph", width=1, latent_dim=2), SHAPE).eval()
    model.start_from(training_start(x, np.arange(5)))
    mean = model.decode(torch.zeros(1, 2))[0, 0].numpy()
    np.testing.assert_allclose(mean, np.clip(x.mean(0), 0.01, 0.99), atol=1e-4)
