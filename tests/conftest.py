"""Fixtures that tests of several folders share."""

import pytest
import torch

from neuroaug.config import GeneratorConfig


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def small_config():
    return GeneratorConfig(latent_dim=3, width=4, step_size=1e-2)


@pytest.fixture
def images(generator):
    """Seven images on a grid no two axes of which are equal."""
    return torch.rand(7, 1, 9, 13, 11, generator=generator)
