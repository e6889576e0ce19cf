"""The check of a data set: clean ones are clean, planted faults are found, nothing is written."""

import gzip
import json
import os

import nibabel as nib
import numpy as np
import pytest

from neuroaug.dataset_check.check_files import check
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED
from neuroaug.imaging.nifti import write_volume
from neuroaug.preprocessing import records
from neuroaug.preprocessing.records import Record
from neuroaug.system.files import sha256_file


def image(path, shape=(9, 10, 11), affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.broadcast_to(np.arange(shape[2], dtype=np.float32), shape)
    write_volume(path, data, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine, level=1)
    return path


def raw(root, participant, session="ses-M000"):
    path = image(root / participant / session / "anat" / f"{participant}_{session}_T1w.nii.gz")
    path.with_suffix("").with_suffix(".json").write_text('{"EchoTime": 0.003}')
    return path


@pytest.fixture
def bids(tmp_path):
    root = tmp_path / "bids"
    for participant in ("sub-1", "sub-2", "sub-3"):
        raw(root, participant)
        (root / participant / f"{participant}_sessions.tsv").write_text(
            "session_id\tdiagnosis\tage\nses-M000\tCN\t70\n"
        )
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.7.0"}')
    (root / "participants.tsv").write_text(
        "participant_id\tsex\tage_bl\nsub-1\tM\t70\nsub-2\tF\t71.5\nsub-3\tn/a\tn/a\n"
    )
    return root


@pytest.fixture
def caps(tmp_path):
    """A CAPS of two visits, at 4 mm to be quick, with records and a quality table."""
    root = tmp_path / "caps"
    caps_names.write_dataset_description(root, name="x")
    known = {}
    for participant in ("sub-1", "sub-2"):
        visit = Visit(participant, "ses-M000")
        path = image(
            caps_names.t1_linear_image(root, visit, "4mm"), GRIDS["4mm"].shape, GRIDS["4mm"].affine
        )
        caps_names.t1_linear_affine(root, visit).write_bytes(b"affine")
        caps_names.t1_linear_sidecar(root, visit).write_text("{}")
        record = Record(
            "ok",
            parameters={"n4_distance": 200},
            files={path.name: path.stat().st_size},
            quality={"pass_probability": 0.9, "pass": True},
        )
        records.write_record(root, visit, record)
        known[visit] = record
    records.update_tables(root, known)
    return root


def found(root, **options):
    return {finding.path: finding for finding in check(root, **options)}


def snapshot(root):
    return {
        p: (p.stat().st_mtime_ns, sha256_file(p) if p.is_file() else None)
        for p in sorted(root.rglob("*"))
    }


def test_clean_data_sets_are_clean_and_untouched(bids, caps):
    for root in (bids, caps):
        before = snapshot(root)
        assert check(root, n_procs=2) == []
        assert snapshot(root) == before


def test_a_relative_path_is_looked_at_as_an_absolute_one(bids, monkeypatch):
    monkeypatch.chdir(bids.parent)
    assert check("bids") == []


def test_every_planted_fault_of_a_bids_folder_is_found_at_once(bids, tmp_path):
    for number in range(4, 10):
        raw(bids, f"sub-{number}")
    anat = "ses-M000/anat"

    def path(participant):
        return f"{participant}/{anat}/{participant}_ses-M000_T1w.nii.gz"

    content = (bids / path("sub-1")).read_bytes()
    (bids / path("sub-1")).write_bytes(content[: len(content) // 2])
    data = np.ones((9, 10, 11), np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), bids / path("sub-2"))
    nib.save(
        nib.Nifti1Image(np.full((9, 10, 11), np.nan, np.float32), np.eye(4)), bids / path("sub-3")
    )
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((9, 10, 11, 2)), np.eye(4)),
        bids / path("sub-4"),
    )
    (bids / path("sub-5")).with_suffix("").with_suffix(".json").write_text("{")
    (bids / f"sub-6/{anat}/.tmp-77-x.nii.gz").write_bytes(b"half")
    (bids / "sub-7" / "sub-7_sessions.tsv").write_text(
        "session_id\tdiagnosis\nses-M000\tCN\nses-M000\tdemented\n"
    )
    (bids / path("sub-8")).rename(bids / f"sub-8/{anat}/sub-9_ses-M000_T1w.nii.gz")
    (bids / "sub-x_y" / "ses-M000").mkdir(parents=True)
    (bids / "participants.tsv").write_text(
        "participant_id\tsex\tage_bl\nsub-1\tM\t70\nsub-1\tM\t70\nsub-2\twoman\t710\nsub-99\tF\t70\n../x\tF\t70\n"
    )
    (bids / "dataset_description.json").unlink()
    found_now = found(bids, n_procs=2)
    assert "truncated" in found_now[path("sub-1")].message
    assert "constant" in found_now[path("sub-2")].message
    assert "non-finite" in found_now[path("sub-3")].message
    assert "not a 3D" in found_now[path("sub-4")].message
    assert "JSON" in found_now[path("sub-5").replace(".nii.gz", ".json")].message
    assert "cut off" in found_now[f"sub-6/{anat}/.tmp-77-x.nii.gz"].message
    assert "does not belong" in found_now["sub-8/ses-M000"].message
    assert "sub-x_y" in found_now
    assert found_now["dataset_description.json"].message == "missing"
    told = "\n".join(f"{f.path}: {f.message}; {f.fix}" for f in check(bids))
    for text in (
        "sub-1 has 2 rows",
        "sex is 'woman'",
        "age_bl is '710'",
        "sub-99",
        "../x",
        "diagnosis is 'demented'",
    ):
        assert text in told
    assert "2 rows for this session" in told


def test_a_torn_json_file_is_one_finding_at_its_place(bids):
    for path in (
        bids / "dataset_description.json",
        bids / "sub-2/ses-M000/anat/sub-2_ses-M000_T1w.json",
    ):
        path.write_text('{"Name": "x')
    findings = check(bids)
    assert [f.path for f in findings] == [
        "dataset_description.json",
        "sub-2/ses-M000/anat/sub-2_ses-M000_T1w.json",
    ]
    assert all("not readable as JSON" in f.message for f in findings)
    # Nothing of a sidecar is used: the scan is preprocessed all the same.
    assert [f.severity for f in findings] == ["error", "warning"]


def test_every_planted_fault_of_a_caps_is_found_at_once(caps):
    one, two, three = (Visit(f"sub-{i}", "ses-M000") for i in (1, 2, 3))
    first = caps_names.t1_linear_image(caps, one, "4mm")
    first.write_bytes(first.read_bytes()[:-100])
    shifted = GRIDS["4mm"].affine.copy()
    shifted[0, 3] += 0.5
    image(caps_names.t1_linear_image(caps, two, "4mm"), GRIDS["4mm"].shape, shifted)
    caps_names.t1_linear_sidecar(caps, two).write_text("[]")
    image(caps_names.t1_linear_image(caps, three, "4mm"), (9, 9, 9))
    records.write_record(caps, three, Record("started", parameters={"n4_distance": 600}))
    folder = caps_names.t1_linear_folder(caps, two)
    image(folder / "sub-1_ses-M000_T1w.nii.gz")
    (folder / ".tmp-1-x").write_bytes(b"")
    uncropped = caps_names.t1_linear_image(caps, one, cropped=False)
    uncropped.write_bytes(gzip.compress(bytes(1000)))
    (caps / "qc-decisions.tsv").write_text(
        "participant_id\tsession_id\tpass\nsub-1\tses-M000\tperhaps\n"
    )
    with open(caps / "qc.tsv", "a") as table:
        table.write("sub-9\tses-M000\t0.5\tTrue\nsub-9\tses-M000\t0.5\tTrue\n")
    (caps / "subjects" / "sub-1" / "ses-M_1").mkdir()
    told = {(f.path.removeprefix("subjects/"), f.message) for f in check(caps, n_procs=2)}

    def said(path, text):
        return any(path in where and text in message for where, message in told)

    assert said(first.name, "truncated")
    assert said(first.name, "bytes where")
    assert said(
        "sub-2_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-4x4x4_T1w.nii.gz",
        "not on the 4mm grid",
    )
    assert said("sub-2/ses-M000/t1_linear", "holds a list")
    assert said("sub-3/ses-M000/t1_linear", "not finished")
    assert said("sub-3_ses-M000", "not on the 4mm grid")
    assert said("sub-1_ses-M000_T1w.nii.gz", "belongs to another visit")
    assert said(".tmp-1-x", "cut off")
    assert said(uncropped.name, "not a NIfTI")
    assert said("qc-decisions.tsv", "perhaps")
    assert said("qc.tsv", "sub-9 ses-M000 has several rows")
    assert said("qc.tsv", "has no images")
    assert said("ses-M_1", "ses-M_1")
    assert said("", "two N4 distances: 200 mm (sub-1 ses-M000), 600 mm (sub-3 ses-M000)")


def uncropped_beside_cropped(caps, checksums=None):
    """A visit with both 1 mm images as `t1-linear` leaves them; the path of the uncropped one."""
    visit = Visit("sub-1", "ses-M000")
    image(caps_names.t1_linear_image(caps, visit), GRIDS["1mm"].shape, GRIDS["1mm"].affine)
    path = caps_names.t1_linear_image(caps, visit, cropped=False)
    image(path, UNCROPPED.shape, UNCROPPED.affine)
    if checksums:
        caps_names.t1_linear_sidecar(caps, visit).write_text(
            json.dumps({"files": {path.name: sha256_file(path)}})
        )
    return path


def flip_a_bit_in_the_middle(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_uncropped_image_is_known_by_the_checksum_in_the_sidecar(caps):
    path = uncropped_beside_cropped(caps, checksums=True)
    assert check(caps) == []
    flip_a_bit_in_the_middle(path)
    assert [(f.path.split("/")[-1], f.severity) for f in check(caps)] == [(path.name, "error")]


def test_of_clinicas_uncropped_image_beside_a_cropped_one_the_end_is_looked_at(caps):
    path = uncropped_beside_cropped(caps)
    assert check(caps) == []
    path.write_bytes(path.read_bytes()[:-9])
    assert [f.message for f in check(caps)] == ["truncated, or not on the template's grid"]


def test_an_uncropped_image_without_a_cropped_one_is_read_whole(caps):
    path = uncropped_beside_cropped(caps)
    caps_names.t1_linear_image(caps, Visit("sub-1", "ses-M000")).unlink()
    flip_a_bit_in_the_middle(path)
    (finding,) = check(caps)
    assert "corrupt gzip" in finding.message


def test_a_valid_image_that_is_not_the_one_written_is_a_warning(caps):
    visit = Visit("sub-1", "ses-M000")
    path = caps_names.t1_linear_image(caps, visit, "4mm")
    caps_names.t1_linear_sidecar(caps, visit).write_text(
        json.dumps({"files": {path.name: "0" * 64}})
    )
    (finding,) = check(caps)
    assert finding.severity == "warning"
    assert "checksum" in finding.message


def test_a_synthetic_caps_is_understood(tmp_path):
    root = tmp_path / "synthetic"
    caps_names.write_dataset_description(root, name="x")
    for i in (1, 2):
        visit = Visit(f"sub-synAD0000{i}", "ses-M000")
        image(
            caps_names.t1_linear_image(root, visit, "4mm"), GRIDS["4mm"].shape, GRIDS["4mm"].affine
        )
    (root / "participants.tsv").write_text(
        "participant_id\tdiagnosis\nsub-synAD00001\tAD\nsub-synAD00003\tAD\n"
    )
    told = {(f.severity, f.message) for f in check(root)}
    assert told == {
        ("error", "sub-synAD00003 has no folder"),
        ("warning", "sub-synAD00002 has images but no row"),
    }


def test_a_study_is_checked_whole(tmp_path, bids, caps):
    (tmp_path / "neuroaug.yaml").write_text("bids: bids\ncaps: caps\n")
    (bids / "participants.tsv").unlink()
    (caps / "dataset_description.json").write_text('{"Name": "x", "CAPSVersion": "1.0.0"}')
    told = found(tmp_path)
    assert told["bids/participants.tsv"].severity == "warning"
    assert "BIDSVersion" in told["caps/dataset_description.json"].message


def test_findings_are_json(bids):
    (bids / "participants.tsv").unlink()
    (finding,) = check(bids)
    assert set(json.loads(json.dumps(finding.as_dict()))) == {"path", "severity", "message", "fix"}


def test_where_there_is_nothing_to_look_at(tmp_path):
    (tmp_path / "file").touch()
    for folder, message in (
        (tmp_path / "absent", "no such folder"),
        (tmp_path / "file", "not a folder"),
        (tmp_path, "neither"),
    ):
        with pytest.raises(InputError, match=message):
            check(folder)


def test_odd_places_and_links_that_lead_nowhere_are_findings(bids, tmp_path):
    (bids / "sub-5").symlink_to(tmp_path / "elsewhere")
    (bids / "sub-6" / "ses-M000").mkdir(parents=True)
    (bids / "sub-6" / "ses-M000" / "anat").write_text("a file")
    os.makedirs(os.path.join(os.fsencode(bids), b"sub-a\nb\xff"))
    (bids / "sub-7" / "ses-M000" / "anat").mkdir(parents=True)
    os.mkfifo(bids / "sub-7" / "ses-M000" / "anat" / "sub-7_ses-M000_T1w.nii.gz")
    found = check(bids)
    errors = {f.path: f.message for f in found if f.severity == "error"}
    assert "not there" in errors["sub-5"]
    assert "no T1w" in errors["sub-6/ses-M000"]
    assert "a pipe" in errors["sub-7/ses-M000/anat/sub-7_ses-M000_T1w.nii.gz"]
    for finding in found:
        text = f"{finding.path} {finding.message}"
        assert "\n" not in text
        text.encode()
