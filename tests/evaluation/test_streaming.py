"""Sets larger than the memory are read, not kept."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.clinicadl import datasets
from neuroaug.evaluation.clinicadl.datasets import VolumeDataset
from neuroaug.imaging.cache import CohortCache


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="resident memory is read from /proc"
)
def test_reading_a_large_set_does_not_fill_the_memory(tmp_path, monkeypatch):
    n, shape = 60, (64, 128, 128)
    np.save(
        tmp_path / "images.npy", np.repeat(np.arange(n, dtype=np.uint8), 2**20).reshape(n, *shape)
    )
    record = {"affine": np.eye(4).tolist(), "grid": None, "scaling": "min-max"}
    cache = CohortCache(
        tmp_path, np.load(tmp_path / "images.npy", mmap_mode="r"), pd.DataFrame(), record
    )
    names = [f"sub-{i:03d}" for i in range(n)]
    table = pd.DataFrame(
        {"participant_id": names, "session_id": "ses-M000", "diagnosis": "CN", "label": 0.0}
    )
    images = Images(table, (cache,), np.zeros(n, dtype=int), np.arange(n), np.zeros(n, dtype=bool))

    def mapped():
        text = Path("/proc/self/status").read_text()
        return int(re.search(r"RssFile:\s+(\d+) kB", text)[1]) * 1024

    def read():
        dataset = VolumeDataset(images, seed=0, batch_size=4)
        before = mapped()
        for first in range(0, n, 4):
            (batch,) = dataset.__getitems__(range(first, first + 4))
            assert batch.voxels[:, 0, 0, 0, 0].tolist() == dataset.order[first : first + 4].tolist()
        return mapped() - before

    monkeypatch.setattr(datasets, "MAPPED_BYTES", 4 * 2**20)
    assert read() < cache.images.nbytes / 4
    monkeypatch.setattr(datasets, "MAPPED_BYTES", 2**40)
    assert read() > cache.images.nbytes / 2  # the test sees what it is about
