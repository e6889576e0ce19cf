"""The memory that a visit will take is known from its header, before anything is killed for it."""

import gzip

import nibabel as nib
import pytest
from visits import failures, scan

from neuroaug.imaging.bids import Visit
from neuroaug.imaging.nifti import count_voxels
from neuroaug.preprocessing.memory_plan import MEMORY_MB
from neuroaug.preprocessing.plan import VisitJob
from neuroaug.preprocessing.preprocess import preprocess

MEASURED = [  # million voxels, peak MB of `process_visit` (docs/preprocessing.md)
    (10.48576, 1490),
    (30.675924, 3800),
    (83.88608, 9630),
]


def header(shape):
    """A compressed file of which only the header is there."""
    made = nib.Nifti1Header()
    made.set_data_shape(shape)
    made.set_data_dtype("<i2")
    made["magic"], made["vox_offset"] = b"n+1", 352
    return gzip.compress(made.binaryblock + bytes(4), mtime=0)


def test_the_voxels_are_read_from_the_header(tmp_path):
    path = scan(tmp_path, "sub-A", content=header((512, 512, 320)))
    assert count_voxels(path) == 512 * 512 * 320
    path.write_bytes(b"no NIfTI")
    assert count_voxels(path) is None
    path.unlink()
    assert count_voxels(path) is None


@pytest.mark.parametrize(("millions", "peak"), MEASURED)
def test_what_was_measured_is_planned_with_little_to_spare(tmp_path, millions, peak):
    job = VisitJob(Visit("sub-A", "ses-M000"), "process", tmp_path, voxels=round(millions * 1e6))
    planned = job.memory_mb("default")
    assert peak < planned
    assert planned <= max(1.2 * peak, MEMORY_MB["default"])


def test_a_scan_of_1_mm_is_planned_as_before(tmp_path):
    job = VisitJob(Visit("sub-A", "ses-M000"), "process", tmp_path, voxels=256 * 256 * 176)
    assert {p: job.memory_mb(p) for p in MEMORY_MB} == MEMORY_MB


def test_a_visit_larger_than_the_memory_is_refused_by_name_and_the_others_done(
    tmp_path, bids, stand_in, done
):
    scan(bids, "sub-B", content=header((512, 512, 512)))
    caps = tmp_path / "caps"
    summary = preprocess(caps, bids=bids, mem_mb=8000, **stand_in)
    assert (summary.n_ok, summary.n_failed) == (3, 1)
    stage, reason = failures(caps)["sub-B", "ses-M000"]
    assert stage == "memory"
    assert "sub-B_ses-M000_T1w.nii.gz: 134 million voxels need about 16.7 GB" in reason
    assert "there are 8.0 GB" in reason
    done()
    # With the memory it wants, it is tried; no record says that it failed.
    assert preprocess(caps, bids=bids, mem_mb=17000, **stand_in).n_failed == 0
    assert done() == ["sub-B ses-M000 process"]


def test_large_visits_are_not_done_beside_each_other(tmp_path, bids, stand_in, monkeypatch):
    """Two of 3.9 GB within 6 GB: one after the other, while small ones go beside them."""
    from neuroaug.system import pool

    for participant in ("sub-A", "sub-B"):
        scan(bids, participant, content=header((229, 366, 366)))
    most = []
    give = pool.Pool._give

    def watched(self, task):
        give(self, task)
        most.append(sum(w.task.memory_mb for w in self._workers if w.task is not None))

    monkeypatch.setattr(pool.Pool, "_give", watched)
    summary = preprocess(tmp_path / "caps", bids=bids, mem_mb=6200, n_procs=3, **stand_in)
    assert (summary.n_ok, summary.n_failed) == (4, 0)
    assert max(most) <= 6200
    assert MEMORY_MB["fast"] + 3900 < max(most)  # two did go at a time
