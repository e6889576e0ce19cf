"""Scans as they come, through ANTs itself: broken ones told by their reason, good ones as the
standard says.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from visits import FAST, clinica_caps, failures, scan, tree

from neuroaug.config import PreprocessingConfig
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED
from neuroaug.preprocessing import records
from neuroaug.preprocessing.preprocess import preprocess


def head(root, participant, data=None, affine=None, **header):
    """A scan of the phantom cohort's kind, or voxels given, as a NIfTI file."""
    path = root / participant / "ses-M000" / "anat" / f"{participant}_ses-M000_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(
        nib.Nifti1Image(data, affine if affine is not None else np.diag([4.0, 4.0, 4.0, 1.0])), path
    )
    return path


@pytest.fixture(scope="module")
def raw_head(tmp_path_factory):
    """One phantom head, 4 mm voxels, in a pose."""
    from neuroaug.phantom.phantom_cohort import make_cohort, scan_path

    root = tmp_path_factory.mktemp("phantom")
    make_cohort(root, n_participants=1, voxel_mm=4.0)
    return scan_path(root, next(root.glob("sub-*")).name)


def broken_visits(root, good):
    """Beside each other, every kind of scan and row that must be refused: (participant, session) to
    its reason.
    """
    image = nib.load(good)
    data, affine = image.get_fdata(dtype=np.float32), image.affine
    raw = good.read_bytes()

    def put(participant, content):
        scan(root, participant, content=content)

    put("sub-truncated", raw[: len(raw) // 2])
    put("sub-corrupt", raw[:5000] + bytes(500) + raw[5500:])
    put("sub-empty", b"")
    put("sub-text", b"not an image")
    head(root, "sub-4D", np.stack([data, data], axis=3), affine)
    nan = data.copy()
    nan[5, 5, 5] = np.nan
    head(root, "sub-nan", nan, affine)
    head(root, "sub-constant", np.zeros_like(data), affine)
    head(root, "sub-thin", data[:, :, :5], affine)
    head(root, "sub-coarse", data, affine @ np.diag([3, 3, 3, 1]))
    singular = affine.copy()
    singular[:3, 1] = singular[:3, 0]
    flat = head(root, "sub-singular", data, np.eye(4) * 4)
    broken = nib.load(flat)
    broken.header.set_sform(singular, 2)
    broken.header.set_qform(None, 0)
    content = bytearray(nib.Nifti1Image(data, None, broken.header).to_bytes())
    flat.with_suffix("").with_suffix(".nii").write_bytes(bytes(content))
    flat.unlink()
    (root / "sub-nothing" / "ses-M000" / "anat").mkdir(parents=True)
    scan(root, "sub-session", "ses-M_00")
    scan(root, "sub-nosession", content=b"")
    (root / "sub-nosession" / "anat").mkdir(parents=True)
    shutil.copy(good, root / "sub-nosession" / "anat" / "sub-nosession_T1w.nii.gz")
    scan(root, "sub-tsv", content=b"")
    (root / "sub-tsv" / "sub-tsv_sessions.tsv").write_text("")
    (root / "dataset_description.json").write_text("[")
    (root / "participants.tsv").write_text("participant_id\nsub-absent\n../../outside\n")
    return {
        ("sub-tsv", "n/a"): "not readable as a tab-separated table",
        ("sub-tsv", "ses-M000"): "empty",
        ("n/a", "n/a"): "dataset_description.json: not readable as JSON",
        ("sub-truncated", "ses-M000"): "truncated",
        ("sub-corrupt", "ses-M000"): "corrupt",
        ("sub-empty", "ses-M000"): "empty",
        ("sub-text", "ses-M000"): "gz",
        ("sub-4D", "ses-M000"): "not a 3D image",
        ("sub-nan", "ses-M000"): "non-finite",
        ("sub-constant", "ses-M000"): "constant",
        ("sub-thin", "ses-M000"): "fewer than 8",
        ("sub-coarse", "ses-M000"): "voxel size",
        ("sub-singular", "ses-M000"): "singular",
        ("sub-nothing", "ses-M000"): "no T1w",
        ("sub-session", "ses-M_00"): "ses-M_00",
        ("sub-nosession", "n/a"): "outside a session folder",
        ("sub-nosession", "ses-M000"): "empty",
        ("sub-absent", "n/a"): "no T1w",
        ("../../outside", "n/a"): "not a participant",
    }


def test_every_kind_of_broken_visit_is_told_by_its_reason(tmp_path, raw_head, caplog, capfd):
    bids, caps = tmp_path / "bids", tmp_path / "caps"
    reasons = broken_visits(bids, raw_head)
    around, here = {path.name for path in tmp_path.iterdir()}, sorted(Path.cwd().iterdir())
    summary = preprocess(caps, bids=bids, config=FAST, n_procs=2)
    assert (summary.n_ok, summary.n_failed) == (0, len(reasons))
    found = failures(caps)
    assert set(found) == set(reasons)
    for key, reason in reasons.items():
        assert reason in found[key][1], (key, found[key])
    assert "Traceback" not in "".join(capfd.readouterr()) + caplog.text
    assert {path.name for path in tmp_path.iterdir()} == around | {"caps"}
    assert sorted(Path.cwd().iterdir()) == here
    assert str(tmp_path) not in (caps / "failures.tsv").read_text()
    assert not list(caps.glob("subjects/*"))


@pytest.mark.slow
def test_beside_broken_visits_the_good_one_is_done_by_ants(tmp_path, raw_head):
    bids, caps = tmp_path / "bids", tmp_path / "caps"
    reasons = broken_visits(bids, scan(bids, "sub-good", content=raw_head.read_bytes()))
    summary = preprocess(caps, bids=bids, config=FAST)
    assert (summary.n_ok, summary.n_failed) == (1, len(reasons))
    assert [path.name for path in (caps / "subjects").iterdir()] == ["sub-good"]
    visit = Visit("sub-good", "ses-M000")
    folder = caps_names.t1_linear_folder(caps, visit)
    stem = "sub-good_ses-M000_space-MNI152NLin2009cSym"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{stem}_{rest}"
        for rest in (
            "desc-Crop_res-1x1x1_T1w.nii.gz",
            "desc-Crop_res-1x1x1_T1w.json",
            "desc-Crop_res-2x2x2_T1w.nii.gz",
            "desc-Crop_res-4x4x4_T1w.nii.gz",
            "res-1x1x1_T1w.nii.gz",
            "res-1x1x1_affine.mat",
        )
    )
    for resolution, grid in GRIDS.items():
        image = nib.load(caps_names.t1_linear_image(caps, visit, resolution))
        assert grid.matches(image.shape, image.affine)
    uncropped = nib.load(caps_names.t1_linear_image(caps, visit, cropped=False))
    assert UNCROPPED.matches(uncropped.shape, uncropped.affine)
    assert (caps / "qc.html").read_text().count("<figure") == 1
    assert records.passed_visits(caps) is not None
    assert preprocess(caps, bids=bids, config=FAST).n_skipped == 1


@pytest.mark.slow
def test_killed_at_random_moments_ants_ends_with_the_same_bytes(tmp_path, raw_head):
    bids, caps, moments = tmp_path / "bids", tmp_path / "caps", random.Random(2)
    for name in ("A", "B"):
        scan(bids, f"sub-{name}", content=raw_head.read_bytes())
    code = (
        "from neuroaug.config import PreprocessingConfig as C;"
        "from neuroaug.preprocessing.preprocess import preprocess;"
        f"preprocess({str(caps)!r}, bids={str(bids)!r}, config=C(profile='fast'), n_procs=2)"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(5 + 60 * moments.random())
        process.kill()
        process.wait()
    preprocess(caps, bids=bids, config=PreprocessingConfig(profile="fast"), n_procs=1)
    preprocess(tmp_path / "alone", bids=bids, config=PreprocessingConfig(profile="fast"), n_procs=2)
    assert tree(caps) == tree(tmp_path / "alone")


NO_NETWORK = ["unshare", "--map-root-user", "--net"]


def _can_leave_the_network():
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*NO_NETWORK, "true"], check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not _can_leave_the_network(), reason="no rights to make a namespace without network"
)
def test_a_visit_is_done_without_a_network(tmp_path, raw_head):
    bids, caps = tmp_path / "bids", tmp_path / "caps"
    scan(bids, "sub-good", content=raw_head.read_bytes())
    arguments = ["preprocess", str(caps), "--bids", str(bids), "--profile", "fast"]
    python = [sys.executable, "-c", "from neuroaug.cli import main; main()"]
    command = [*NO_NETWORK, *python, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        caps_names.list_visits(caps, "2mm")
        == records.passed_visits(caps)
        == [Visit("sub-good", "ses-M000")]
    )


VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def bids_errors(folder):
    """What the BIDS validator calls an error, offline."""
    result = subprocess.run(
        [VALIDATOR, folder, "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(result.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue.get("severity") == "error"]


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno is not installed")
def test_the_bids_validator_finds_no_error_in_the_derivative(tmp_path, bids, stand_in):
    scan(bids, "sub-B", content=b"broken")
    preprocess(tmp_path / "caps", bids=bids, **stand_in)
    assert bids_errors(tmp_path / "caps") == []


@pytest.mark.slow
def test_clinicadl_reads_the_result(tmp_path):
    import clinicadl.io.bids as bids_module
    from clinicadl.data.datasets import BidsDataset

    caps = clinica_caps(tmp_path / "caps", n=2)
    preprocess(caps, config=FAST)
    entities = {"space": "MNI152NLin2009cSym", "desc": "Crop", "res": "2x2x2"}
    kind = bids_module.BidsFileType(data_type="t1_linear", suffix="T1w", with_entities=entities)
    dataset = BidsDataset(caps, kind)
    assert len(dataset) == 2
    assert tuple(dataset[0]["image"].shape[-3:]) == GRIDS["2mm"].shape
