"""Grids lie where Clinica's and ClinicaDL's do; the smaller copies are block means."""

import numpy as np
import pytest

from neuroaug.errors import InputError
from neuroaug.imaging.grid import GRIDS, UNCROPPED, block_mean, crop


@pytest.mark.parametrize(
    ("resolution", "shape", "origin", "voxel"),
    [
        ("1mm", (169, 208, 179), (-84.0, -119.0, -78.0), 1.0),
        ("2mm", (84, 104, 89), (-83.5, -118.5, -77.5), 2.0),
        ("4mm", (42, 52, 44), (-82.5, -117.5, -76.5), 4.0),
    ],
)
def test_grids(resolution, shape, origin, voxel):
    grid = GRIDS[resolution]
    expected = np.diag([voxel, voxel, voxel, 1.0])
    expected[:3, 3] = origin
    assert grid.shape == shape
    np.testing.assert_array_equal(grid.affine, expected)
    assert grid.voxel_mm == (voxel,) * 3
    assert grid.origin == origin
    assert grid.matches(shape, expected)
    assert not grid.matches(shape, np.diag([voxel, voxel, voxel, 1.0]))


def test_uncropped_grid_is_the_templates():
    assert UNCROPPED.shape == (193, 229, 193)
    assert UNCROPPED.origin == (-96.0, -132.0, -78.0)


def test_crop_keeps_every_voxel_where_it_was():
    x, y, z = np.meshgrid(
        *(np.arange(n, dtype=np.float32) for n in UNCROPPED.shape), indexing="ij", sparse=True
    )
    for axis, coordinate in enumerate((x, y, z)):
        world = coordinate + np.float32(UNCROPPED.origin[axis])
        cut = crop(np.broadcast_to(world, UNCROPPED.shape))
        grid = GRIDS["1mm"]
        assert cut.shape == grid.shape
        expected = grid.origin[axis] + np.arange(grid.shape[axis])
        np.testing.assert_array_equal(np.moveaxis(cut, axis, 0)[:, 3, 4], expected)


def test_crop_refuses_another_grid():
    with pytest.raises(InputError, match="template's grid"):
        crop(np.zeros((193, 229, 192), np.float32))


def test_block_mean_is_the_mean_of_each_block_without_odd_ends():
    volume = np.random.default_rng(0).normal(size=(7, 8, 5)).astype(np.float32)
    small = block_mean(volume)
    assert small.shape == (3, 4, 2)
    assert small.dtype == np.float32
    for index in np.ndindex(*small.shape):
        block = volume[tuple(slice(2 * i, 2 * i + 2) for i in index)]
        assert small[index] == pytest.approx(block.mean(), abs=1e-6)


def test_a_plane_keeps_its_world_position_in_every_copy():
    """A volume that holds its own world coordinate still does so after downsampling: no half-voxel
    shift.
    """
    grid = GRIDS["1mm"]
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = grid.shape[axis]
        line = grid.origin[axis] + np.arange(grid.shape[axis], dtype=np.float32)
        volume = np.broadcast_to(line.reshape(shape), grid.shape)
        for resolution in ("2mm", "4mm"):
            volume = block_mean(volume)
            small = GRIDS[resolution]
            assert volume.shape == small.shape
            expected = small.origin[axis] + small.voxel_mm[axis] * np.arange(small.shape[axis])
            np.testing.assert_allclose(np.moveaxis(volume, axis, 0)[:, 1, 2], expected, atol=1e-4)


def test_block_mean_equals_the_papers_interpolation():
    import torch

    volume = np.random.default_rng(1).normal(size=(9, 12, 11)).astype(np.float32)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(volume)[None, None],
        scale_factor=0.5,
        mode="trilinear",
        align_corners=False,
    )
    np.testing.assert_allclose(block_mean(volume), reference[0, 0].numpy(), atol=1e-6)
