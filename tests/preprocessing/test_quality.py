"""The score tells a head on the template from one beside it."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuroaug.imaging.grid import UNCROPPED, block_mean, crop
from neuroaug.imaging.template import load_regions, load_template
from neuroaug.preprocessing.steps.pose_search import normalized_mutual_information
from neuroaug.preprocessing.steps.quality import (
    Quality,
    assess,
    measure_coarse,
    motion_matrix,
    probability,
    refine,
)
from neuroaug.preprocessing.steps.registration import warp


def test_mutual_information_of_independent_and_of_equal_images():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 8, (2, 20000))
    assert normalized_mutual_information(first, second, 8) == pytest.approx(1, abs=0.002)
    assert normalized_mutual_information(first, first, 8) == pytest.approx(2)
    assert normalized_mutual_information(first, 7 - first, 8) == pytest.approx(
        2
    )  # contrast reversed
    assert normalized_mutual_information(first, first // 2, 8) == pytest.approx(
        2 * (3 + 2) / 2 / 3, abs=0.01
    )


def head(seed=0):
    """The template with another contrast, a field and noise: not the same image, the same head."""
    rng = np.random.default_rng(seed)
    data = (load_template().data / 255) ** 1.3 * 200
    x = np.linspace(-1, 1, data.shape[0], dtype=np.float32)[:, None, None]
    data = (
        data * np.exp(0.2 * x)
        + ndimage.zoom(rng.normal(0, 12, tuple(n // 3 + 1 for n in data.shape)), 3, order=1)[
            : data.shape[0], : data.shape[1], : data.shape[2]
        ]
    )
    return np.maximum(data, 0).astype(np.float32)


def moved(data, degrees=(0, 0, 0), shift=(0, 0, 0)):
    """The head as it lies after a registration that is wrong by this much."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return crop(warp(data, UNCROPPED.affine, matrix))


@pytest.fixture(scope="module")
def person():
    return head()


def test_a_head_in_place_passes(person):
    quality = assess(crop(person))
    assert isinstance(quality, Quality)
    assert quality.passed
    assert quality.pass_probability > 0.9
    assert quality.moved_mm <= 4


@pytest.mark.parametrize(
    ("degrees", "shift"),
    [
        ((0, 0, 0), (11, 0, 0)),
        ((0, 0, 0), (0, -12, 0)),
        ((12, 0, 0), (0, 0, 0)),
        ((180, 0, 0), (0, 0, 0)),
        ((0, 0, 90), (0, 0, 0)),
        ((0, 0, 0), (60, 40, 0)),
    ],
)
def test_a_head_beside_the_template_fails(person, degrees, shift):
    quality = assess(moved(person, degrees, shift))
    assert not quality.passed
    assert quality.pass_probability < 0.5


def test_no_head_at_all_fails():
    noise = np.random.default_rng(0).random(crop(load_template().data).shape, np.float32)
    assert not assess(noise).passed
    assert not assess(np.where(noise > 0.999999, noise, 0)).passed


def test_the_probability_is_one():
    for nmi in (1.0, 1.05, 2.0):
        for moved_mm in (0.0, 100.0):
            assert (
                0 <= probability({"nmi": nmi, "moved_mm": moved_mm, "gain": 0.0, "dice": 0.9}) <= 1
            )


def test_the_second_search_finds_the_way_back(person):
    """What `refine` reports is the motion that undoes the error."""
    image = block_mean(block_mean(moved(person, shift=(0, 8, 0))))
    parameters, before, after = refine(image)
    assert after > before
    back = motion_matrix(parameters)
    centre = UNCROPPED.affine @ [*np.argwhere(load_regions()[1]).mean(axis=0), 1]
    np.testing.assert_allclose((back @ centre - centre)[:3], (0, -8, 0), atol=2.5)


def test_only_the_coarse_image_counts(person):
    """So that the 4 mm copy alone is enough."""
    cropped = crop(person)
    quality, figures = assess(cropped), measure_coarse(block_mean(block_mean(cropped)))
    assert quality.score == figures["nmi"]
    assert quality.dice == figures["dice"]


def test_an_image_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="cropped grid"):
        assess(np.zeros((10, 11, 12), np.float32))
