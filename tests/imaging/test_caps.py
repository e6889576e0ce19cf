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
