"""Checksums of real images are remembered, in a file that an earlier version may have written."""

import json

import numpy as np
import pytest

from neuroaug.audit import leakage
from neuroaug.audit.leakage import VoxelChecksums
from neuroaug.audit.near_copies import image_fingerprint
from neuroaug.imaging.cache import voxel_sha256
from neuroaug.imaging.nifti import write_volume


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.nii.gz"
    write_volume(path, np.random.default_rng(0).random((12, 14, 13)).astype(np.float32), np.eye(4))
    return path


def test_what_was_computed_is_not_computed_again(image, tmp_path, monkeypatch):
    first = VoxelChecksums(tmp_path / "voxel-checksums.json")
    found = first.of(image)
    first.save()
    assert found[0] == voxel_sha256(image)
    monkeypatch.setattr(leakage, "read_volume", None)
    assert VoxelChecksums(tmp_path / "voxel-checksums.json").of(image) == found


def test_a_file_is_a_list_by_path_as_it_always_was(image, tmp_path):
    status = image.stat()
    known = ["checksum", "ff00", status.st_size, status.st_mtime_ns]
    path = tmp_path / "voxel-checksums.json"
    path.write_text(json.dumps({str(image): known}))
    assert VoxelChecksums(path).of(image) == ("checksum", "ff00")


@pytest.mark.parametrize("content", ["{", '{"other.nii.gz": ["x", "y", 1, 2]}'])
def test_a_file_that_is_broken_or_of_other_images_costs_time_only(image, tmp_path, content):
    path = tmp_path / "voxel-checksums.json"
    path.write_text(content)
    assert VoxelChecksums(path).of(image)[0] == voxel_sha256(image)


def test_an_image_written_again_is_read_again(image, tmp_path):
    checksums = VoxelChecksums(tmp_path / "voxel-checksums.json")
    before = checksums.of(image)
    data = np.random.default_rng(1).random((12, 14, 13)).astype(np.float32)
    write_volume(image, data, np.eye(4), level=1)
    after = checksums.of(image)
    assert after != before
    assert after[1] == image_fingerprint(data)
