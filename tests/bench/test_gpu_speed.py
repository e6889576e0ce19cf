"""The GPU's benchmark, measured on a CPU; and what it says where there is no GPU."""

import pytest
import torch

from neuroaug.bench import gpu_speed
from neuroaug.config import GeneratorConfig
from neuroaug.errors import ResourceError

TINY = GeneratorConfig(width=1, latent_dim=2, batch_size=5)
SHAPE = (8, 10, 12)


def test_an_epoch_costs_time():
    measured = gpu_speed.train_random(TINY, SHAPE, 10, 2, "cpu")
    assert measured.seconds_per_epoch > 0


def test_a_step_of_twice_the_images_takes_twice_the_operations():
    _, one = gpu_speed.step(TINY, SHAPE, 2, "cpu", n=1)
    _, two = gpu_speed.step(TINY, SHAPE, 4, "cpu", n=1)
    # All but the metric of the batch's centroids, a few thousand operations that grow with its
    # square.
    assert two == pytest.approx(2 * one, rel=0.01)


def test_the_rate_of_a_matrix_product_is_positive():
    assert gpu_speed.matmul_rate("cpu", side=64) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_line_says_so():
    with pytest.raises(ResourceError, match="no GPU that torch can use"):
        gpu_speed.run()
