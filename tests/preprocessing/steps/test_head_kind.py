"""A brain whose skull was removed is told from heads: whole, defaced, cropped, in zeros."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from neuroaug.imaging.grid import block_mean
from neuroaug.imaging.nifti import read_volume
from neuroaug.imaging.template import load_regions, load_template, template_brain
from neuroaug.preprocessing.steps.head_kind import kind_of_head

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the real heads are not beside this checkout")


def coarse(volume):
    return block_mean(volume.astype(np.float32))


@pytest.fixture(scope="module")
def head():
    """The template's head at 2 mm, zero around it."""
    return np.where(coarse(load_regions()[0]) > 0.5, coarse(load_template().data), 0)


@pytest.mark.parametrize("size", [0.8, 0.9, 1.0])
def test_a_brain_in_zeros_is_a_brain_whatever_its_size(size):
    brain = coarse(template_brain(load_template()).data)
    scaled = ndimage.zoom(brain, size, order=1)
    assert kind_of_head(scaled, (2.0, 2.0, 2.0)) == "brain"


def test_a_head_is_a_head_whole_defaced_cropped_or_in_zeros(head):
    voxel = (2.0, 2.0, 2.0)
    assert kind_of_head(head, voxel) == "head"
    noisy = head + np.random.default_rng(0).random(head.shape).astype(np.float32)
    assert kind_of_head(noisy, voxel) == "head"
    y, z = np.indices(head.shape)[1:]
    assert kind_of_head(np.where(y - z > 60, 0, head), voxel) == "head"
    assert kind_of_head(head[:, :, 30:], voxel) == "head"
    assert kind_of_head(head[12:-12], voxel) == "head"


def test_nothing_and_everything_are_heads():
    assert kind_of_head(np.zeros((20, 20, 20), np.float32), (2.0, 2.0, 2.0)) == "head"
    assert kind_of_head(np.ones((20, 20, 20), np.float32), (2.0, 2.0, 2.0)) == "head"


@real
@pytest.mark.parametrize("name", ["sub-01", "sub-03", "sub-05"])
def test_real_defaced_heads_and_real_brains_are_told_apart(name):
    scan = f"{name}/anat/{name}_T1w.nii.gz"
    for folder, kind in (("ds000011", "head"), ("ds002748/bids", "brain")):
        volume = read_volume(DATA / folder / scan)
        assert kind_of_head(volume.data, volume.voxel_mm) == kind
