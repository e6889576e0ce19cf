"""Intensities in [0, 1], and how they are stored."""

import numpy as np
import pytest
import torch

from neuroaug.errors import InputError
from neuroaug.imaging.intensity import from_stored, rescale, to_stored


def test_rescale_by_extremes_reaches_both_ends():
    volume = np.array([[[-2.0, 0.0], [3.0, 8.0]]])
    np.testing.assert_allclose(rescale(volume), [[[0.0, 0.2], [0.5, 1.0]]], atol=1e-7)
    assert rescale(volume).dtype == np.float32


def test_rescale_by_percentiles_ignores_one_bright_voxel():
    volume = np.linspace(0, 1, 12 * 13 * 14).reshape(12, 13, 14)
    volume[0, 0, 0] = 1000.0
    scaled = rescale(volume, "percentile")
    assert scaled.min() == 0.0
    assert scaled.max() == 1.0
    assert 0.45 < np.median(scaled) < 0.55
    assert np.median(rescale(volume, "min-max")) < 0.001


def test_rescale_refuses_a_constant_image_and_an_unknown_method():
    with pytest.raises(InputError, match="constant"):
        rescale(np.ones((8, 9, 10)))
    with pytest.raises(InputError, match="unknown"):
        rescale(np.arange(24.0).reshape(2, 3, 4), "z-score")


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_what_is_stored_reads_back_the_same_as_array_and_as_tensor(dtype):
    image = np.linspace(0, 1, 2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    stored = to_stored(image, np.dtype(dtype))
    before = stored.copy()
    read = from_stored(stored)
    assert read.dtype == np.float32
    np.testing.assert_allclose(
        read, image, atol={"uint8": 0.5 / 255, "float16": 5e-4}.get(dtype, 0)
    )
    np.testing.assert_array_equal(from_stored(torch.from_numpy(stored)).numpy(), read)
    np.testing.assert_array_equal(
        from_stored(torch.from_numpy(stored), "float64").numpy(), from_stored(stored, "float64")
    )
    np.testing.assert_array_equal(stored, before)


def test_every_count_of_uint8_comes_back():
    counts = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_stored(from_stored(counts), np.dtype("uint8")), counts)
