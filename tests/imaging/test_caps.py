"""CAPS names are Clinica's."""

import json

import pytest

from neuroaug.errors import InputError
from neuroaug.imaging import caps as c
from neuroaug.imaging.bids import Visit


def test_names_are_those_clinica_writes(tmp_path):
    visit = Visit("sub-01", "ses-M000")
    folder = tmp_path / "subjects" / "sub-01" / "ses-M000" / "t1_linear"
    stem = "sub-01_ses-M000_space-MNI152NLin2009cSym"
    assert c.t1_linear_image(tmp_path, visit) == folder / f"{stem}_desc-Crop_res-1x1x1_T1w.nii.gz"
    assert (
        c.t1_linear_image(tmp_path, visit, "2mm")
        == folder / f"{stem}_desc-Crop_res-2x2x2_T1w.nii.gz"
    )
    assert (
        c.t1_linear_image(tmp_path, visit, "4mm")
        == folder / f"{stem}_desc-Crop_res-4x4x4_T1w.nii.gz"
    )
    assert (
        c.t1_linear_image(tmp_path, visit, cropped=False) == folder / f"{stem}_res-1x1x1_T1w.nii.gz"
    )
    assert c.t1_linear_affine(tmp_path, visit) == folder / f"{stem}_res-1x1x1_affine.mat"
    assert c.t1_linear_sidecar(tmp_path, visit) == folder / f"{stem}_desc-Crop_res-1x1x1_T1w.json"


def test_there_is_no_uncropped_image_but_at_1mm(tmp_path):
    with pytest.raises(InputError, match="1mm only"):
        c.t1_linear_image(tmp_path, Visit("sub-01", "ses-M000"), "2mm", cropped=False)


def test_a_described_folder_is_a_caps_and_says_nothing_of_who_made_it(tmp_path):
    c.write_dataset_description(
        tmp_path, name="study", source_datasets=[{"Version": "1"}], extra={"Phantom": True}
    )
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert c.require_caps(tmp_path) == tmp_path
    assert description["DatasetType"] == "derivative"
    assert description["CAPSVersion"] == "1.0.0"
    assert len(description["BIDSVersion"].split(".")) == 3
    assert description["Phantom"] is True
    assert description["GeneratedBy"][0]["Name"] == "neuroaug"
    assert str(tmp_path) not in json.dumps(description)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no dataset_description.json"),
        ("{", "not readable as JSON"),
        ('{"Name": "x"}', "CAPSVersion"),
        ("[]", "CAPSVersion"),
    ],
)
def test_other_folders_are_refused_in_one_line(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "dataset_description.json").write_text(content)
    assert not c.is_caps(tmp_path)
    with pytest.raises(InputError, match=reason) as error:
        c.require_caps(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "wanting"),
    [
        ({"CAPSVersion": "1.0.0"}, ["Name", "BIDSVersion", "DatasetType"]),
        (
            {"Name": "x", "BIDSVersion": "1.7", "DatasetType": "derivative", "CAPSVersion": "1"},
            ["BIDSVersion"],
        ),
        (
            {"Name": "x", "BIDSVersion": "1.7.0", "DatasetType": "raw", "CAPSVersion": "1"},
            ["DatasetType"],
        ),
    ],
)
def test_a_caps_that_clinicadl_does_not_open_is_refused_with_what_to_write(
    tmp_path, content, wanting
):
    from clinicadl.io.bids.reader import DatasetDescription
    from pydantic import ValidationError

    path = tmp_path / "dataset_description.json"
    path.write_text(json.dumps(content))
    assert c.is_caps(tmp_path)
    with pytest.raises(ValidationError):
        DatasetDescription.from_json(path)
    with pytest.raises(InputError, match="ClinicaDL does not open") as error:
        c.require_described(tmp_path)
    to_write = str(error.value).split("write ")[1].removesuffix(" into it")
    assert [part.split('"')[1] for part in to_write.split(", ")] == wanting
    path.write_text(json.dumps(content | json.loads("{" + to_write + "}")))
    assert DatasetDescription.from_json(path).is_caps
    assert c.require_described(tmp_path) == tmp_path


def test_a_missing_folder_is_not_a_caps(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        c.require_caps(tmp_path / "nowhere")


def test_visits_are_listed_in_order_and_strangers_passed_over(tmp_path):
    visits = [
        Visit("sub-02", "ses-M000"),
        Visit("sub-01", "ses-M006"),
        Visit("sub-01", "ses-M000"),
    ]
    for visit in visits:
        image = c.t1_linear_image(tmp_path, visit, "2mm")
        image.parent.mkdir(parents=True)
        image.write_bytes(b"x")
    (tmp_path / "subjects" / "sub-a_b" / "ses-M000" / "t1_linear").mkdir(parents=True)
    (tmp_path / "subjects" / "sub-03" / "ses-M000" / "t1_linear").mkdir(parents=True)
    assert c.list_visits(tmp_path) == sorted(visits)
    assert c.list_visits(tmp_path, "2mm") == sorted(visits)
    assert c.list_visits(tmp_path, "1mm") == []


STEM = "sub-01_ses-M000"
SPACE = "space-MNI152NLin2009cSym"


@pytest.mark.parametrize(
    "pattern",
    [
        f"{STEM}_T1w_{SPACE}_{{desc}}res-{{res}}_T1w.nii.gz",  # Clinica up to 0.4
        f"{STEM}_acq-mprage_run-2_{SPACE}_{{desc}}res-{{res}}_T1w.nii.gz",
        f"{STEM}_{SPACE}_res-{{res}}_{{desc}}T1w.nii.gz",
        f"{STEM}_{{desc}}res-{{res}}_{SPACE}_T1w.nii.gz",
        f"{STEM}_{SPACE}_{{desc}}res-{{res}}_T1w.nii",
    ],
)
def test_names_of_older_clinicas_are_read(tmp_path, pattern):
    visit = Visit("sub-01", "ses-M000")
    folder = c.t1_linear_folder(tmp_path, visit)
    folder.mkdir(parents=True)
    for desc, res, cropped, resolution in (
        ("desc-Crop_", "1x1x1", True, "1mm"),
        ("desc-Crop_", "2x2x2", True, "2mm"),
        ("", "1x1x1", False, "1mm"),
    ):
        path = folder / pattern.format(desc=desc, res=res)
        path.write_bytes(b"x")
        (folder / f"._{path.name}").write_bytes(b"x")
        assert c.find_t1_linear_image(tmp_path, visit, resolution, cropped) == path
    assert c.list_visits(tmp_path) == c.list_visits(tmp_path, "2mm") == [visit]
    assert c.first_t1_linear_image(tmp_path, visit).name == pattern.format(
        desc="desc-Crop_", res="1x1x1"
    )
    # What a visit lacks has its usual path, where it would be written.
    lacking = c.find_t1_linear_image(tmp_path, visit, "4mm")
    assert lacking == c.t1_linear_image(tmp_path, visit, "4mm")
    assert not lacking.exists()


@pytest.mark.parametrize(
    "name",
    [
        f"{STEM}_{SPACE}_desc-Crop_res-1x1x1_mask.nii.gz",
        f"{STEM}_{SPACE}_desc-SkullStripped_res-1x1x1_T1w.nii.gz",
        f"{STEM}_space-Ixi549Space_desc-Crop_res-1x1x1_T1w.nii.gz",
        f"sub-02_ses-M000_{SPACE}_desc-Crop_res-1x1x1_T1w.nii.gz",
        f"{STEM}_{SPACE}_desc-Crop_res-3x3x3_T1w.nii.gz",
        f"{STEM}_{SPACE}_intensity_desc-Crop_res-1x1x1_T1w.nii.gz",
        f"{STEM}_{SPACE}_desc-Crop_res-1x1x1_T1w.pt",
    ],
)
def test_other_files_beside_an_image_are_none(tmp_path, name):
    visit = Visit("sub-01", "ses-M000")
    folder = c.t1_linear_folder(tmp_path, visit)
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"x")
    assert c.t1_linear_files(tmp_path, visit) == {}
    assert c.list_visits(tmp_path) == []


def test_two_files_for_one_image_are_refused_by_name(tmp_path):
    visit = Visit("sub-01", "ses-M000")
    old = f"{STEM}_T1w_{SPACE}_desc-Crop_res-1x1x1_T1w.nii.gz"
    new = c.t1_linear_image(tmp_path, visit)
    new.parent.mkdir(parents=True)
    for path in (new, new.with_name(old)):
        path.write_bytes(b"x")
    for ask in (c.list_visits, lambda caps: c.find_t1_linear_image(caps, visit)):
        with pytest.raises(InputError, match="one image by their names") as error:
            ask(tmp_path)
        assert old in str(error.value)
        assert new.name in str(error.value)


def test_one_session_under_two_names_is_refused(tmp_path):
    for session in ("ses-M00", "ses-M000"):
        image = c.t1_linear_image(tmp_path, Visit("sub-01", session), "2mm")
        image.parent.mkdir(parents=True)
        image.write_bytes(b"x")
    with pytest.raises(InputError, match="sub-01 has ses-M00 and ses-M000, two spellings"):
        c.list_visits(tmp_path)


def test_an_affine_is_found_under_its_older_name(tmp_path):
    visit = Visit("sub-01", "ses-M000")
    usual = c.t1_linear_affine(tmp_path, visit)
    usual.parent.mkdir(parents=True)
    assert c.find_t1_linear_affine(tmp_path, visit) == usual
    old = usual.with_name(f"{STEM}_T1w_{SPACE}_res-1x1x1_affine.mat")
    old.write_bytes(b"x")
    assert c.find_t1_linear_affine(tmp_path, visit) == old
