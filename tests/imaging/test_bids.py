"""BIDS names, none of which can lead out of its folder, and the T1w images in one."""

import pytest

from neuroaug.errors import InputError
from neuroaug.imaging import bids
from neuroaug.imaging.bids import Visit, normalize_participant, normalize_session


@pytest.mark.parametrize(
    "name", ["sub-", "01", "sub-a_b", "sub-../x", "sub-a/b", "sub-é", "sub-01\n", "SUB-01", ""]
)
def test_a_participant_must_be_letters_and_digits(name):
    with pytest.raises(InputError, match="not a participant"):
        Visit(name, "ses-M000")


@pytest.mark.parametrize("name", ["ses-", "M000", "ses-M 0", "ses-..", "ses-M000/..", "ses-M000\n"])
def test_a_session_must_be_letters_and_digits(name):
    with pytest.raises(InputError, match="not a session"):
        Visit("sub-01", name)


def test_prefixes_are_optional_where_labels_are_typed():
    assert normalize_participant("01") == normalize_participant("sub-01") == "sub-01"
    assert normalize_session("M006") == normalize_session("ses-M006") == "ses-M006"
    with pytest.raises(InputError):
        normalize_participant("../etc")


def test_what_labels_are_and_are_not():
    assert bids.is_participant("sub-01")
    assert bids.is_session("ses-M000")
    assert not any(map(bids.is_participant, ("01", "sub-", "sub-a_b", None, float("nan"))))
    assert not any(map(bids.is_session, ("M000", "ses-", "ses-M 0", None)))


def test_images_come_in_their_numbers_order_and_others_are_passed_over(tmp_path):
    stem = "sub-01_ses-M000"
    names = ("T1w.nii.gz", "acq-b_T1w.nii", "run-2_T1w.nii.gz", "run-10_t1w.nii.gz")
    for name in (*reversed(names), "FLAIR.nii.gz", "T1w.json", "T1w.mgz"):
        (tmp_path / f"{stem}_{name}").touch()
    assert [path.name for path in bids.t1w_images(tmp_path)] == [f"{stem}_{n}" for n in names]
    assert bids.t1w_images(tmp_path / "anat") == []


def test_names_of_a_scan(tmp_path):
    path = bids.t1w_path(tmp_path, Visit("sub-01", "ses-M000"))
    assert path == tmp_path / "sub-01/ses-M000/anat/sub-01_ses-M000_T1w.nii.gz"
    assert bids.sidecar_path(path).name == "sub-01_ses-M000_T1w.json"
    assert bids.sessions_path(tmp_path / "sub-01").name == "sub-01_sessions.tsv"
    run = path.with_name("sub-01_ses-M000_acq-a-b_run-2_T1w.nii.gz")
    assert bids.entities_of(run) == {"sub": "01", "ses": "M000", "acq": "a-b", "run": "2"}
