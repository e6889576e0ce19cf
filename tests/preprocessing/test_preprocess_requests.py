"""A request that makes no sense is refused in one line, before anything is written."""

import pytest
from visits import FAST, SMALL, clinica_caps, tree

from neuroaug.errors import InputError
from neuroaug.preprocessing.preprocess import preprocess
from neuroaug.preprocessing.request import known_distance


def bad_requests(tmp_path, bids):
    caps = tmp_path / "caps"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "file").touch()
    return [
        ((caps,), {"bids": tmp_path / "absent"}, "no such folder"),
        ((caps,), {}, "no such folder"),
        ((caps,), {"bids": bids, "participants": ["Z"]}, "no participant sub-Z"),
        ((caps,), {"bids": bids, "sessions": ["M999"]}, "no session ses-M999"),
        ((bids,), {"bids": bids}, "are one"),
        ((bids / "sub-A" / "caps",), {"bids": bids}, "inside a participant's folder"),
        ((tmp_path,), {"bids": bids}, "inside the CAPS"),
        ((tmp_path / "folder",), {"bids": bids}, "not a CAPS"),
        ((tmp_path / "file",), {"bids": bids}, "not a folder"),
        ((caps,), {"bids": bids, "visits_tsv": tmp_path / "no.tsv"}, "no.tsv: no such file"),
        ((caps,), {"bids": bids, "bids_filter": bids / "sub-A"}, "sub-A"),
        (
            (caps,),
            {"bids": bids, "config": FAST.model_copy(update={"template": "no.nii"})},
            "no.nii: no such file",
        ),
    ]


def test_a_request_that_makes_no_sense_is_one_line_and_writes_nothing(tmp_path, bids):
    for arguments, options, message in bad_requests(tmp_path, bids):
        before = tree(tmp_path)
        with pytest.raises(InputError, match=message) as caught:
            preprocess(*arguments, **options)
        assert "\n" not in str(caught.value)
        assert tree(tmp_path) == before
        assert not (tmp_path / "caps").exists()


def test_a_caps_inside_itself_is_refused(tmp_path, bids, stand_in):
    preprocess(tmp_path / "caps", bids=bids, **stand_in)
    with pytest.raises(InputError, match="lies inside another CAPS"):
        preprocess(tmp_path / "caps" / "subjects" / "caps", bids=bids, **stand_in)


def test_two_n4_distances_are_never_mixed(tmp_path, bids, stand_in):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, participants=["A"], **stand_in)
    assert known_distance(caps) == 200
    other = {**stand_in, "config": SMALL.model_copy(update={"n4_distance": 600})}
    with pytest.raises(InputError, match=r"200 mm.*600 mm"):
        preprocess(caps, bids=bids, **other)


@pytest.mark.parametrize(
    ("version", "distance"), [("0.11.3", 600), ("0.7.2", 600), ("0.12.0", 200), ("1.0.1", 200)]
)
def test_the_n4_distance_of_clinicas_caps_is_known_by_its_version(
    tmp_path, bids, version, distance
):
    caps = clinica_caps(tmp_path / "caps", version)
    assert known_distance(caps) == distance
    config = FAST.model_copy(update={"n4_distance": 800 - distance})
    with pytest.raises(InputError, match=f"{distance} mm.*{800 - distance} mm"):
        preprocess(caps, bids=bids, config=config)
