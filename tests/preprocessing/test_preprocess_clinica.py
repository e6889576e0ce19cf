"""A CAPS that Clinica wrote is completed and never changed."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from visits import FAST, clinica_caps, obey_modes, scan, tree

from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, block_mean, crop
from neuroaug.imaging.nifti import write_volume
from neuroaug.imaging.template import load_template
from neuroaug.preprocessing import records
from neuroaug.preprocessing.preprocess import preprocess
from neuroaug.preprocessing.request import known_distance
from neuroaug.system.files import sha256_file


def test_clinicas_caps_gets_what_it_lacks_and_keeps_what_it_has(tmp_path):
    caps = clinica_caps(tmp_path / "caps")
    before = tree(caps)
    summary = preprocess(caps, config=FAST)
    assert (summary.n_ok, summary.n_failed) == (1, 0)
    after = tree(caps)
    assert {name: after[name] for name in before} == before
    visit = Visit("sub-C0", "ses-M000")
    one, two, four = (
        nib.load(caps_names.t1_linear_image(caps, visit, r)) for r in ("1mm", "2mm", "4mm")
    )
    np.testing.assert_array_equal(
        two.get_fdata(dtype=np.float32), block_mean(one.get_fdata(dtype=np.float32))
    )
    assert GRIDS["2mm"].matches(two.shape, two.affine)
    assert GRIDS["4mm"].matches(four.shape, four.affine)
    assert (caps / "qc.tsv").exists()
    again = preprocess(caps, config=FAST)
    assert (again.n_ok, again.n_skipped) == (0, 1)


def test_clinicas_read_only_caps_is_completed_elsewhere(tmp_path):
    caps = clinica_caps(tmp_path / "caps")
    before = tree(caps)
    out = tmp_path / "out"
    assert preprocess(caps, out=out, config=FAST).n_ok == 1
    assert tree(caps) == before
    assert [str(v) for v in caps_names.list_visits(caps_names.require_caps(out), "2mm")] == [
        "sub-C0 ses-M000"
    ]
    assert preprocess(caps, out=out, config=FAST).n_skipped == 1


def test_of_a_read_only_caps_with_uncropped_images_alone_the_crop_goes_elsewhere_too(tmp_path):
    caps = clinica_caps(tmp_path / "caps", cropped=False)
    before = tree(caps)
    out, visit = tmp_path / "out", Visit("sub-C0", "ses-M000")
    assert preprocess(caps, out=out, config=FAST).n_ok == 1
    assert tree(caps) == before
    whole = nib.load(caps_names.t1_linear_image(caps, visit, cropped=False)).get_fdata(
        dtype=np.float32
    )
    one, two = (nib.load(caps_names.t1_linear_image(out, visit, r)) for r in ("1mm", "2mm"))
    np.testing.assert_array_equal(one.get_fdata(dtype=np.float32), crop(whole))
    np.testing.assert_array_equal(two.get_fdata(dtype=np.float32), block_mean(crop(whole)))
    assert GRIDS["1mm"].matches(one.shape, one.affine)
    again = preprocess(caps, out=out, config=FAST)
    assert (again.n_ok, again.n_skipped) == (0, 1)


def test_a_resolution_asked_for_later_is_added_to_what_went_elsewhere(tmp_path):
    caps, out, visit = (
        clinica_caps(tmp_path / "caps"),
        tmp_path / "out",
        Visit("sub-C0", "ses-M000"),
    )
    for resolutions in (("1mm", "2mm"), ("1mm", "4mm")):
        assert (
            preprocess(
                caps, out=out, config=FAST.model_copy(update={"resolutions": resolutions})
            ).n_ok
            == 1
        )
    listed = json.loads(caps_names.t1_linear_sidecar(out, visit).read_text())["files"]
    there = {
        path.name: sha256_file(path)
        for path in caps_names.t1_linear_folder(out, visit).glob("*.nii.gz")
    }
    assert listed == there
    assert {caps_names.t1_linear_image(out, visit, r).name for r in ("2mm", "4mm")} == set(there)


@pytest.fixture
def read_only_caps(tmp_path):
    caps = clinica_caps(tmp_path / "caps")
    folders = [caps, *(path for path in caps.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield caps
    for folder in folders:
        folder.chmod(0o755)


def test_a_user_without_the_right_to_write_is_told_so_and_can_write_elsewhere(
    tmp_path, read_only_caps
):
    caps, out = read_only_caps, tmp_path / "out"
    before = tree(caps)

    def run(*options):
        command = [
            sys.executable,
            "-c",
            "from neuroaug.cli import main; main()",
            "preprocess",
            str(caps),
            *options,
        ]
        return subprocess.run(
            command, preexec_fn=obey_modes, capture_output=True, text=True, check=False
        )

    refused = run()
    assert refused.returncode == 2, refused.stderr
    assert "read-only; give --out DIR" in refused.stderr
    done = run("--out", str(out), "--resolution", "2mm")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in refused.stderr + done.stderr
    assert tree(caps) == before
    assert caps_names.t1_linear_image(out, Visit("sub-C0", "ses-M000"), "2mm").is_file()


def test_verdicts_of_an_older_calibration_are_reached_again_and_no_image_is_touched(tmp_path):
    caps, visit = clinica_caps(tmp_path / "caps"), Visit("sub-C0", "ses-M000")
    preprocess(caps, config=FAST)
    table, images = (
        (caps / "qc.tsv").read_text(),
        {p: p.stat().st_mtime_ns for p in caps.rglob("*.nii.gz")},
    )
    record = records.read_record(caps, visit)
    old = {**record.quality, "calibration": "older", "pass_probability": 0.99, "pass": True}
    records.write_record(caps, visit, replace(record, quality=old))
    (caps / "qc.tsv").write_text(table.replace("\tFalse", "\tTrue"))
    summary = preprocess(caps, config=FAST)
    assert (summary.n_ok, summary.n_skipped) == (1, 0)
    assert records.read_record(caps, visit).quality == record.quality
    assert (caps / "qc.tsv").read_text() == table
    assert {p: p.stat().st_mtime_ns for p in caps.rglob("*.nii.gz")} == images
    assert preprocess(caps, config=FAST).n_skipped == 1


def test_a_caps_copied_without_its_hidden_folder_is_taken_over_by_its_sidecars(
    tmp_path, bids, stand_in, done
):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    shutil.rmtree(caps / ".neuroaug")
    visit = Visit("sub-B", "ses-M000")
    caps_names.t1_linear_sidecar(caps, visit).write_text(
        json.dumps(
            {
                "parameters": {"profile": "fast", "n4": {"spline_distance_mm": 200}},
                "template": {"sha256": load_template().sha256},
                "input": {"sha256": hashlib.sha256(b"sub-B").hexdigest()},
            }
        )
    )
    assert known_distance(caps) == 200
    preprocess(caps, bids=bids, participants=["B", "C"], **stand_in)
    assert done() == ["sub-B ses-M000 complete", "sub-C ses-M000 process"]
    preprocess(caps, bids=bids, participants=["B", "C"], **stand_in)
    assert done() == []


def test_an_older_clinicas_names_are_read_and_nothing_is_done_twice(tmp_path, bids, done, stand_in):
    caps = clinica_caps(tmp_path / "caps")
    visit = Visit("sub-C0", "ses-M000")
    folder = caps_names.t1_linear_folder(caps, visit)
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("_space-", "_T1w_space-", 1))
    before = tree(caps)
    assert preprocess(caps, config=FAST).n_ok == 1
    after = tree(caps)
    assert {name: after[name] for name in before} == before
    assert not caps_names.t1_linear_image(caps, visit).exists()  # no second copy at 1 mm
    assert caps_names.list_visits(caps, "2mm") == caps_names.list_visits(caps, "1mm") == [visit]
    assert preprocess(caps, config=FAST).n_skipped == 1
    scan(bids, "sub-C0", content=b"raw")
    preprocess(caps, bids=bids, participants=["C0"], **_clinicas(stand_in))
    assert done() == []


def test_one_session_spelled_otherwise_in_the_caps_is_refused_by_name(
    tmp_path, bids, done, stand_in
):
    caps = clinica_caps(tmp_path / "caps")
    folder = caps / "subjects" / "sub-C0" / "ses-M000"
    folder.rename(folder.with_name("ses-M00"))
    t1 = folder.with_name("ses-M00") / "t1_linear"
    for path in list(t1.iterdir()):
        path.rename(t1 / path.name.replace("ses-M000", "ses-M00"))
    scan(bids, "sub-C0", content=b"raw")
    summary = preprocess(caps, bids=bids, participants=["C0"], **_clinicas(stand_in))
    assert done() == []
    assert summary.n_failed == 1
    reason = (caps / "failures.tsv").read_text()
    assert "ses-M00 (CAPS) and ses-M000 (BIDS folder) are two spellings of one session" in reason


def _clinicas(stand_in):
    """With the N4 distance of the visits that Clinica made."""
    return {**stand_in, "config": stand_in["config"].model_copy(update={"n4_distance": 600})}


def test_images_of_4_mm_alone_are_left_as_they_are_and_counted(tmp_path, caplog):
    caps = clinica_caps(tmp_path / "caps")
    visit = Visit("sub-C0", "ses-M000")
    fine = caps_names.t1_linear_image(caps, visit)
    four = GRIDS["4mm"]
    write_volume(
        caps_names.t1_linear_image(caps, visit, "4mm"),
        np.random.default_rng(0).random(four.shape),
        four.affine,
    )
    for path in (fine, caps_names.t1_linear_image(caps, visit, cropped=False)):
        path.unlink(missing_ok=True)
    before = tree(caps)
    with caplog.at_level("INFO", "neuroaug"):
        summary = preprocess(caps, config=FAST)
    assert (summary.n_ok, summary.n_failed) == (0, 0)
    assert "1 visits have no image of 1 mm and are left as they are (first: sub-C0" in caplog.text
    after = tree(caps)
    assert {name: after[name] for name in before} == before
