"""Classical augmentation: small, repeatable, on real images only."""

import numpy as np
import pytest
import torch

from neuroaug.evaluation import classical_augmentation

CPU = torch.device("cpu")


def blob(shape, voxel_mm, width_mm=12.0):
    """A ball in the middle, and its grid in mm."""
    axes = [voxel_mm * (np.arange(n) - (n - 1) / 2) for n in shape]
    distance = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    return torch.from_numpy(np.exp(-distance / (2 * width_mm**2))).float()[None], axes


def centre(image, axes):
    weights = image[0].numpy()
    return np.array(
        [
            (weights.sum(axis=tuple(set(range(3)) - {i})) * axis).sum() / weights.sum()
            for i, axis in enumerate(axes)
        ]
    )


def test_a_draw_depends_on_its_seed_alone():
    augment = classical_augmentation.transform((16, 20, 18), 4.0, CPU)
    image = torch.rand(1, 16, 20, 18)
    first = augment(image, 1)
    second = augment(image, 2)
    assert not torch.equal(first, second)
    torch.testing.assert_close(augment(image, 1), first, rtol=0, atol=0)
    torch.testing.assert_close(
        classical_augmentation.transform((16, 20, 18), 4.0, CPU)(image, 1), first, rtol=0, atol=0
    )
    assert first.shape == image.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


@pytest.mark.parametrize(("shape", "voxel_mm"), [((20, 24, 22), 4.0), ((40, 48, 44), 2.0)])
def test_displacements_are_in_millimetres_on_every_grid(shape, voxel_mm):
    augment = classical_augmentation.transform(shape, voxel_mm, CPU)
    image, axes = blob(shape, voxel_mm)
    shifts = [
        np.abs(centre(augment(image, seed), axes) - centre(image, axes)) for seed in range(12)
    ]
    largest = np.max(shifts)
    # Translation moves up to 4 mm along an axis; the elastic part averages out over a 12 mm ball.
    assert (
        1.5
        < largest
        < classical_augmentation.TRANSLATION_MM + classical_augmentation.ELASTIC_DISPLACEMENT_MM
    )
    assert np.median(shifts) < 3


def test_flips_are_left_right_only():
    augment = classical_augmentation.transform((16, 20, 18), 4.0, CPU)
    image = torch.zeros(1, 16, 20, 18)
    image[:, 1:5, 2:6, 2:6] = 1  # a corner: left, posterior, inferior
    sides = []
    for seed in range(12):
        found = augment(image, seed)[0]
        sides.append(bool(found[:8].sum() > found[8:].sum()))
        assert found[:, :10].sum() > found[:, 10:].sum()
        assert found[:, :, :9].sum() > found[:, :, 9:].sum()
    assert 2 <= sum(sides) <= 10


def test_synthetic_images_of_a_batch_are_left_as_they_are():
    augmentation = classical_augmentation.ClassicalAugmentation((16, 20, 18), 4.0, 0, CPU)
    images = torch.rand(3, 1, 16, 20, 18)
    batch = [
        {"synthetic": synthetic, "epoch": 1, "place": i}
        for i, synthetic in enumerate([False, True, False])
    ]
    out = augmentation(images, batch)
    torch.testing.assert_close(out[1], images[1], rtol=0, atol=0)
    assert not torch.equal(out[0], images[0])
    again = augmentation(images, [{**row, "epoch": 2} for row in batch])
    assert not torch.equal(again[0], out[0])  # another epoch, another draw
