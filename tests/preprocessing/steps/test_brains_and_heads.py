"""A head whose skull was removed lands where the same head lands whole (minutes a head)."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from neuroaug.config import PreprocessingConfig
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.caps import t1_linear_sidecar, write_dataset_description
from neuroaug.imaging.grid import UNCROPPED
from neuroaug.imaging.nifti import read_volume, write_volume
from neuroaug.imaging.template import load_regions
from neuroaug.preprocessing.steps.t1_linear import process_visit
from neuroaug.system.files import read_json

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "ds000011"
HEADS = [f"sub-0{i}" for i in range(1, 7)]


def landed(scan, caps, visit):
    """Where a scan lands, template to scan (4, 4), and its verdict."""
    write_dataset_description(caps, name="heads")
    result = process_visit(scan, caps, visit, PreprocessingConfig())
    sidecar = read_json(t1_linear_sidecar(caps, visit))
    return np.array(sidecar["template_to_scan"]), result.quality, sidecar


def strip(volume, template_to_scan):
    """Zero outside the template's brain, as it lies in the scan."""
    to_template = np.linalg.inv(UNCROPPED.affine) @ np.linalg.inv(template_to_scan) @ volume.affine
    inside = ndimage.affine_transform(
        load_regions()[1].astype(np.float32),
        to_template[:3, :3],
        to_template[:3, 3],
        output_shape=volume.data.shape,
        order=1,
    )
    return np.where(inside > 0.5, volume.data, np.float32(0))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the real heads are not beside this checkout")
@pytest.mark.parametrize("name", HEADS)
def test_a_real_head_lands_in_the_same_place_with_and_without_its_skull(tmp_path, name):
    scan = DATA / name / "anat" / f"{name}_T1w.nii.gz"
    visit = Visit(name, "ses-M000")
    whole, quality, _ = landed(scan, tmp_path / "whole", visit)
    assert quality.passed
    volume = read_volume(scan)
    write_volume(tmp_path / "brain.nii.gz", strip(volume, whole), volume.affine, space="scanner")
    stripped, quality, sidecar = landed(tmp_path / "brain.nii.gz", tmp_path / "brain", visit)
    assert quality.passed
    assert sidecar["quality"]["kind"] == "brain"
    points = np.argwhere(load_regions()[1])[::50]
    world = np.c_[points, np.ones(len(points))] @ UNCROPPED.affine.T
    distance = np.linalg.norm((world @ (whole - stripped).T)[:, :3], axis=1)
    print(f"{name}: median {np.median(distance):.2f} mm, 95 % {np.quantile(distance, 0.95):.2f} mm")
    assert np.median(distance) < 1.0
