"""Networks on principal components: before the first step they are PCA, and nothing less after."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from neuroaug.config import GeneratorConfig
from neuroaug.models import RHVAE, VAE, load_model
from neuroaug.training.stored_images import training_start

SHAPE = (9, 8, 10)
D = 3
CONFIG = GeneratorConfig(width=1, latent_dim=D, start="components")


def images(n: int = 14, low: float = 0.2, seed: int = 0) -> np.ndarray:
    """Images between `low` and 1 - `low`, of a few directions and noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)) @ rng.standard_normal((5, int(np.prod(SHAPE))))
    x += 0.3 * rng.standard_normal(x.shape)
    x = (x - x.min()) / np.ptp(x)
    return (low + (1 - 2 * low) * x).reshape(n, *SHAPE).astype(np.float32)


def started(family: type = VAE, x: np.ndarray | None = None):
    x = images() if x is None else x
    torch.manual_seed(0)
    model = family(CONFIG, SHAPE, "AD")
    model.start_from(training_start(x, np.arange(len(x))))
    return model.eval()


@pytest.mark.parametrize("family", [VAE, RHVAE])
def test_an_untrained_model_is_scikit_learns_pca_on_people_it_has_not_seen(family):
    x, new = images(), images(5, seed=1)
    model = started(family, x)
    pca = PCA(D, svd_solver="full").fit(x.reshape(len(x), -1).astype(np.float64))
    scores = pca.transform(new.reshape(len(new), -1))
    codes = model.encode(torch.from_numpy(new)[:, None])[0].numpy()
    deviation = np.sqrt(pca.explained_variance_ * (len(x) - 1) / len(x))
    np.testing.assert_allclose(np.abs(codes), np.abs(scores / deviation), rtol=1e-3, atol=1e-4)
    back = pca.inverse_transform(scores).reshape(new.shape)
    inside = (back > 0.05) & (back < 0.95)
    ours = model.reconstruct(torch.from_numpy(new)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(ours[inside], back[inside], atol=2e-3)


def test_the_code_nought_is_the_mean_image_black_background_too():
    x = images(low=0.0)
    x[:, :3] = 0
    decoded = started(VAE, x).decode(torch.zeros(1, D))[0, 0].numpy()
    np.testing.assert_allclose(decoded, x.mean(0), atol=1.1e-3)


def test_gradients_are_those_of_finite_differences_at_the_bends_too():
    model = started(VAE, images(low=0.0)).double()
    z = torch.randn(2, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.decoder.gate.fill_(0.05)
    assert torch.autograd.gradcheck(
        lambda code: model.decoder(code).sigmoid().sum((1, 2, 3, 4)), z.requires_grad_()
    )


def test_gates_open_in_training_and_the_basis_is_stored_once(tmp_path):
    x = torch.from_numpy(images())[:, None]
    model = started().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = float(model.loss(x, generator=torch.Generator().manual_seed(0)).loss)
    for step in range(30):
        optimizer.zero_grad()
        loss = model.loss(x, generator=torch.Generator().manual_seed(step)).loss
        loss.backward()
        optimizer.step()
    assert float(loss) < first
    assert float(model.decoder.gate.abs()) > 0
    model.eval().update_metric([x])
    model.training_record = {}
    model.save(tmp_path)
    names = [name for name in model.state_dict() if "directions" in name]
    assert names == ["decoder.basis.directions"]
    again = load_model(tmp_path)
    z = torch.ones(2, D)
    assert torch.equal(again.decode(z), model.decode(z))
    assert torch.equal(again.encode(x)[0], model.encode(x)[0])


def test_fewer_people_than_latents_leave_the_last_codes_empty():
    model = started(VAE, images(3))
    codes = model.encode(torch.from_numpy(images(3))[:, None])[0]
    assert torch.isfinite(codes).all()
    assert codes[:, 2].abs().max() < 1e-5
