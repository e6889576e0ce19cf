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


@pytest.fixture
def neuroaug(monkeypatch):
    """Run a command in a study's folder, which must end with the code given; gives what it says."""
    from typer.testing import CliRunner

    from neuroaug.cli import app

    def run(root, *arguments, code=0):
        monkeypatch.chdir(root)
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result.output

    return run
