"""The cohort cache: what training reads is what the files hold, and nothing stale or broken is
used.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroaug.errors import InputError
from neuroaug.imaging.cache import CohortCache, voxel_sha256
from neuroaug.imaging.grid import GRIDS
from neuroaug.imaging.nifti import write_volume

SHAPE = (8, 10, 12)


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[list[Path], pd.DataFrame]:
    rng = np.random.default_rng(0)
    files = []
    for i in range(5):
        path = tmp_path / "caps" / f"sub-{i:02d}_T1w.nii.gz"
        write_volume(
            path, rng.gamma(2.0, 100.0, SHAPE).astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])
        )
        files.append(path)
    index = pd.DataFrame(
        {
            "participant_id": [f"sub-{i:02d}" for i in range(5)],
            "session_id": "ses-M000",
            "diagnosis": ["AD", "AD", None, "CN", "CN"],
        }
    )
    return files, index


@pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 1e-7), ("float16", 2.5e-4), ("uint8", 0.5 / 255 + 1e-6)]
)
def test_images_are_the_files_scaled_by_their_own_extremes(tmp_path, cohort, dtype, error):
    files, index = cohort
    cache = CohortCache.build(tmp_path / "cache", files, index, dtype=dtype)
    assert cache.images.shape == (5, *SHAPE)
    assert cache.images.dtype == dtype
    import nibabel as nib

    for i, file in enumerate(files):
        raw = nib.load(file).get_fdata()
        expected = (raw - raw.min()) / (raw.max() - raw.min())
        image = cache.read(i)
        assert image.dtype == np.float32
        assert np.abs(image - expected).max() <= error
    assert np.array_equal(cache.batch([3, 1])[1], cache.read(1))
    assert list(cache.index["participant_id"]) == list(index["participant_id"])
    assert np.array_equal(cache.affine, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert cache.grid is None


def test_percentile_scaling_is_robust_to_one_hot_voxel(tmp_path, cohort):
    files, index = cohort
    image = np.random.default_rng(1).uniform(0, 100, SHAPE).astype(np.float32)
    image[0, 0, 0] = 1e5
    write_volume(files[0], image, np.diag([2.0, 2.0, 2.0, 1.0]))
    robust = CohortCache.build(tmp_path / "robust", files, index, scaling="percentile").read(0)
    extreme = CohortCache.build(tmp_path / "extreme", files, index).read(0)
    assert np.median(robust) > 0.4
    assert np.median(extreme) < 0.001


def test_same_bytes_whatever_the_number_of_processes(tmp_path, cohort):
    files, index = cohort
    one = CohortCache.build(tmp_path / "one", files, index, n_procs=1)
    two = CohortCache.build(tmp_path / "two", files, index, n_procs=2)
    for name in ("images.npy", "index.tsv", "cache.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_grid_is_recognised_by_shape_and_affine(tmp_path):
    grid = GRIDS["4mm"]
    data = np.random.default_rng(0).random(grid.shape, dtype=np.float32)
    write_volume(tmp_path / "a.nii.gz", data, grid.affine)
    index = pd.DataFrame({"participant_id": ["sub-01"], "session_id": ["ses-M000"]})
    assert CohortCache.build(tmp_path / "cache", [tmp_path / "a.nii.gz"], index).grid == "4mm"


def test_voxel_checksum_knows_a_renamed_recompressed_copy(tmp_path, cohort):
    files, index = cohort
    import nibabel as nib

    data = nib.load(files[0]).get_fdata(dtype=np.float32)
    write_volume(tmp_path / "copy.nii", data, np.diag([2.0, 2.0, 2.0, 1.0]))
    digest = hashlib.sha256(np.ascontiguousarray(data, "<f4").tobytes()).hexdigest()
    assert voxel_sha256(files[0]) == voxel_sha256(tmp_path / "copy.nii") == digest
    assert voxel_sha256(files[1]) != digest
    cache = CohortCache.build(tmp_path / "cache", files, index)
    assert cache.image_sha256 == tuple(voxel_sha256(file) for file in files)


def test_a_valid_cache_is_reused_and_a_stale_one_remade(tmp_path, cohort):
    files, index = cohort
    folder = tmp_path / "cache"
    record = folder / "cache.json"
    CohortCache.build(folder, files, index)
    made = record.stat().st_ino
    CohortCache.build(folder, files, index)
    assert record.stat().st_ino == made
    os.utime(files[0])  # another date, the same content
    CohortCache.build(folder, files, index)
    assert record.stat().st_ino == made

    write_volume(files[0], np.arange(np.prod(SHAPE)).reshape(SHAPE), np.diag([2.0, 2.0, 2.0, 1.0]))
    remade = CohortCache.build(folder, files, index)
    assert remade.image_sha256[0] == voxel_sha256(files[0])
    assert np.abs(remade.read(0).ravel() - np.linspace(0, 1, np.prod(SHAPE))).max() < 1e-3

    swapped = CohortCache.build(folder, files[::-1], index.iloc[::-1].reset_index(drop=True))
    assert list(swapped.index["participant_id"]) == list(index["participant_id"])[::-1]
    assert CohortCache.build(folder, files[:3], index[:3]).images.shape[0] == 3
    assert CohortCache.build(folder, files[:3], index[:3], dtype="uint8").images.dtype == np.uint8


def test_a_changed_file_in_the_cache_is_refused_on_open_and_remade_by_build(tmp_path, cohort):
    files, index = cohort
    folder = tmp_path / "cache"
    good = CohortCache.build(folder, files, index)
    bytes_of_array = (folder / "images.npy").read_bytes()
    with open(folder / "images.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(InputError, match=r"images\.npy: changed"):
        CohortCache.open(folder)
    CohortCache.build(folder, files, index)
    assert (folder / "images.npy").read_bytes() == bytes_of_array

    (folder / "index.tsv").write_text(
        (folder / "index.tsv").read_text().replace("sub-00", "sub-99")
    )
    with pytest.raises(InputError, match=r"index\.tsv: changed"):
        CohortCache.open(folder)
    record = json.loads((folder / "cache.json").read_text()) | {"format_version": 99}
    (folder / "cache.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="version 99"):
        CohortCache.open(folder)
    with pytest.raises(InputError, match=r"cache\.json: no such file"):
        CohortCache.open(tmp_path / "nothing")
    assert good.sha256 == CohortCache.build(folder, files, index).sha256


def test_images_of_two_grids_are_refused_naming_both(tmp_path, cohort):
    files, index = cohort
    write_volume(
        files[3], np.random.default_rng(0).random((8, 10, 13)), np.diag([2.0, 2.0, 2.0, 1.0])
    )
    with pytest.raises(InputError) as refusal:
        CohortCache.build(tmp_path / "cache", files, index)
    assert str(files[3]) in str(refusal.value)
    assert str(files[0]) in str(refusal.value)
    assert "8x10x13" in str(refusal.value)

    write_volume(files[3], np.random.default_rng(0).random(SHAPE), np.diag([2.0, 2.0, 2.5, 1.0]))
    with pytest.raises(InputError, match="affine"):
        CohortCache.build(tmp_path / "cache", files, index, n_procs=2)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".cache")) == ["caps"]


def test_missing_and_unreadable_images_are_named(tmp_path, cohort):
    files, index = cohort
    files[2].unlink()
    with pytest.raises(InputError, match=rf"{files[2].name}: no such file; preprocess"):
        CohortCache.build(tmp_path / "cache", files, index)
    files[2].write_bytes(files[1].read_bytes()[:-40])
    with pytest.raises(InputError, match=rf"{files[2].name}: .*truncated"):
        CohortCache.build(tmp_path / "cache", files, index)
    with pytest.raises(InputError, match="5 images for 4 rows"):
        CohortCache.build(tmp_path / "cache", files, index[:4])
    with pytest.raises(InputError, match="empty"):
        CohortCache.build(tmp_path / "cache", [], index[:0])
    assert not (tmp_path / "cache").exists()


def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path, cohort):
    files, index = cohort
    index.to_csv(tmp_path / "index.csv", index=False)
    program = f"""
import os, signal, sys
import pandas as pd
from neuroaug.imaging import cache
fill = cache._fill
def dying(task):
    if task.row == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return fill(task)
cache._fill = dying
index = pd.read_csv({str(tmp_path / "index.csv")!r})
cache.CohortCache.build({str(tmp_path / "cache")!r}, {[str(f) for f in files]!r}, index)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "cache").exists()
    cache = CohortCache.build(tmp_path / "cache", files, index)
    assert len(cache) == 5
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []


def test_torch_is_not_needed():
    program = "import sys, neuroaug.imaging.cache; assert not {'torch', 'ants'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
