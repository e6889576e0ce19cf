"""Which T1w stands for each visit, and what cannot be used."""

import json
import os

import pytest

from neuroaug.errors import InputError
from neuroaug.preprocessing.bids_filter import read_filter
from neuroaug.preprocessing.select import find_scans, select


def add(root, participant, session, *names):
    """Put (empty) images into a BIDS folder."""
    folder = root / participant / session / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("T1w.nii.gz",):
        (folder / f"{participant}_{session}_{name}").write_bytes(b"")


@pytest.fixture
def bids(tmp_path):
    """Two participants, three visits."""
    root = tmp_path / "bids"
    add(root, "sub-01", "ses-M000")
    add(root, "sub-01", "ses-M006")
    add(root, "sub-02", "ses-M000", "T1w.nii", "T1w.json", "FLAIR.nii.gz")
    return root


def visits(scans):
    return [str(scan.visit) for scan in scans]


def reasons(refusals):
    return {(row.participant_id, row.session_id): row.reason for row in refusals}


def test_one_t1w_a_visit_in_order(bids):
    scans, refusals = find_scans(bids)
    assert visits(scans) == ["sub-01 ses-M000", "sub-01 ses-M006", "sub-02 ses-M000"]
    assert scans[2].path.name == "sub-02_ses-M000_T1w.nii"
    assert refusals == []


def test_of_several_runs_the_first_by_number_is_taken_and_said(bids):
    add(bids, "sub-03", "ses-M000", "run-10_T1w.nii.gz", "run-2_T1w.nii.gz")
    scan = find_scans(bids)[0][-1]
    assert scan.path.name == "sub-03_ses-M000_run-2_T1w.nii.gz"
    assert "took the first" in scan.note
    assert "sub-03_ses-M000_run-10_T1w.nii.gz" in scan.note


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ({"acquisition": "mprage"}, "acq-mprage_run-1_T1w.nii.gz"),
        ({"acquisition": "mprage", "run": 2}, "acq-mprage_run-02_T1w.nii.gz"),
        ({"acquisition": ["none", "spgr"]}, "acq-spgr_T1w.nii.gz"),
        ({"acquisition": None}, "rec-norm_T1w.nii.gz"),
        ({"acquisition": "*", "run": None}, "acq-spgr_T1w.nii.gz"),
        ({"datatype": "anat", "suffix": "T1w", "reconstruction": "norm"}, "rec-norm_T1w.nii.gz"),
    ],
)
def test_a_bids_filter_chooses(bids, tmp_path, query, taken):
    names = ("acq-mprage_run-1", "acq-mprage_run-02", "acq-spgr", "rec-norm")
    add(bids, "sub-03", "ses-M000", *(f"{name}_T1w.nii.gz" for name in names))
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": query}))
    scans, _ = find_scans(bids, select(["03"], bids_filter=path))
    assert scans[0].path.name == f"sub-03_ses-M000_{taken}"


def test_a_visit_that_the_filter_empties_is_refused(bids, tmp_path):
    path = tmp_path / "filter.json"
    path.write_text('{"t1w": {"acquisition": "mprage"}}')
    scans, refusals = find_scans(bids, select(bids_filter=path))
    assert scans == []
    assert "passes the BIDS filter" in reasons(refusals)["sub-02", "ses-M000"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ('{"bold": {}}', "expected a query"),
        ('{"t1w": {"aquisition": "x"}}', "aquisition"),
    ],
)
def test_a_filter_that_is_none_is_one_line(tmp_path, content, message):
    path = tmp_path / "filter.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_filter(path)
    assert "\n" not in str(caught.value)


def test_labels_choose_with_or_without_prefix(bids):
    assert visits(find_scans(bids, select(["01"], ["ses-M006"]))[0]) == ["sub-01 ses-M006"]
    assert visits(find_scans(bids, select(["sub-02"]))[0]) == ["sub-02 ses-M000"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((["09", "01"],), "sub-09"), ((None, ["M099"]), "ses-M099"), ((["../01"],), "../01")],
)
def test_unknown_labels_are_named(bids, arguments, named):
    with pytest.raises(InputError, match=named):
        find_scans(bids, select(*arguments))


def test_a_table_of_visits_chooses_and_its_bad_rows_are_told(bids, tmp_path):
    table = tmp_path / "visits.tsv"
    rows = [
        ("sub-01", "ses-M006"),
        ("sub-01", "ses-M006"),
        ("sub-09", "ses-M000"),
        ("sub-02", "M000"),
        ("../x", "ses-1"),
    ]
    table.write_text(
        "participant_id\tsession_id\n" + "".join(f"{p}\t{s}\n" for p, s in rows) + "sub-02\tn/a\n"
    )
    selection = select(visits_tsv=table)
    scans, refusals = find_scans(bids, selection)
    refused = reasons(selection.refusals)
    assert visits(scans) == ["sub-01 ses-M006"]
    assert "2 rows" in refused["sub-01", "ses-M006"]
    assert {("sub-02", "M000"), ("../x", "ses-1"), ("sub-02", "n/a")} <= set(refused)
    assert reasons(refusals) == {("sub-09", "ses-M000"): "no such visit in the BIDS folder"}


def test_participants_without_t1w_and_rows_that_leave_their_folder_are_one_refusal_each(bids):
    (bids / "sub-04" / "ses-M000").mkdir(parents=True)
    (bids / "sub-05").mkdir()
    (bids / "participants.tsv").write_text(
        "participant_id\nsub-01\nsub-06\n../../etc\nsub-02/..\nsub-01\nn/a\n"
    )
    scans, refusals = find_scans(bids)
    found = reasons(refusals)
    assert len(scans) == 3
    assert "no T1w" in found["sub-04", "ses-M000"]
    assert "no T1w" in found["sub-05", "n/a"]
    assert "no T1w" in found["sub-06", "n/a"]
    assert "not a participant" in found["../../etc", "n/a"]
    assert "not a participant" in found["sub-02/..", "n/a"]
    assert "2 rows" in found["sub-01", "n/a"]
    assert len(refusals) == 7


def test_wrong_and_missing_sessions_are_refused(bids):
    (bids / "sub-03" / "anat").mkdir(parents=True)
    (bids / "sub-03" / "anat" / "sub-03_T1w.nii.gz").write_bytes(b"")
    add(bids, "sub-04", "ses-M_00")
    (bids / "sub-05" / "ses-M000" / "anat").mkdir(parents=True)
    (bids / "sub-05" / "ses-M000" / "anat" / "sub-05_ses-M012_T1w.nii.gz").write_bytes(b"")
    found = reasons(find_scans(bids)[1])
    assert "outside a session folder" in found["sub-03", "n/a"]
    assert "ses-M_00" in found["sub-04", "ses-M_00"]
    assert "does not belong to its folder" in found["sub-05", "ses-M000"]


def test_links_out_of_the_folder_are_refused_and_links_within_are_followed(bids, tmp_path):
    outside = tmp_path / "outside.nii.gz"
    outside.write_bytes(b"")
    store = bids / ".git" / "annex" / "objects"
    store.mkdir(parents=True)
    (store / "key").write_bytes(b"")
    for participant, target in (("sub-03", outside), ("sub-04", store / "key")):
        folder = bids / participant / "ses-M000" / "anat"
        folder.mkdir(parents=True)
        (folder / f"{participant}_ses-M000_T1w.nii.gz").symlink_to(target)
    elsewhere = tmp_path / "elsewhere"
    add(elsewhere, "sub-05", "ses-M000")
    (bids / "sub-05").symlink_to(elsewhere / "sub-05")
    scans, refusals = find_scans(bids)
    assert "sub-04 ses-M000" in visits(scans)
    assert "out of the BIDS folder" in reasons(refusals)["sub-03", "ses-M000"]
    assert "out of the BIDS folder" in reasons(refusals)["sub-05", "n/a"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"", b"name\nsub-01\n"])
def test_unreadable_tables_are_refusals_and_the_scans_go_on(bids, content):
    (bids / "participants.tsv").write_bytes(content)
    (bids / "sub-01" / "sub-01_sessions.tsv").write_bytes(content)
    scans, refusals = find_scans(bids)
    assert len(scans) == 3
    assert {("n/a", "n/a"), ("sub-01", "n/a")} == set(reasons(refusals))
    assert all(row.stage == "tables" for row in refusals)


def test_session_tables_may_list_visits_without_scans_but_not_twice(bids):
    (bids / "sub-01" / "sub-01_sessions.tsv").write_text(
        "session_id\nses-M000\nses-M012\nses-M000\nbaseline\n"
    )
    found = reasons(find_scans(bids)[1])
    assert "2 rows" in found["sub-01", "ses-M000"]
    assert "not a session" in found["sub-01", "baseline"]
    assert len(found) == 2


def test_folders_that_are_no_bids(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "caps" / "subjects").mkdir(parents=True)
    for name, message in (
        ("absent", "no such folder"),
        ("empty", "not a BIDS folder"),
        ("caps", "looks like a CAPS"),
    ):
        with pytest.raises(InputError, match=message):
            find_scans(tmp_path / name)


def test_what_is_no_file_or_another_visits_scan_or_too_long_is_refused(bids):
    add(bids, "sub-03", "ses-M000", "T1w.json")
    os.mkfifo(bids / "sub-03" / "ses-M000" / "anat" / "sub-03_ses-M000_T1w.nii.gz")
    (bids / "sub-04" / "ses-M000" / "anat").mkdir(parents=True)
    other = "../../../sub-01/ses-M000/anat/sub-01_ses-M000_T1w.nii.gz"
    (bids / "sub-04" / "ses-M000" / "anat" / "sub-04_ses-M000_T1w.nii.gz").symlink_to(other)
    long = "sub-" + "5" * 190
    add(bids, long, "ses-M000")
    scans, refusals = find_scans(bids)
    assert len(scans) == 3
    found = reasons(refusals)
    assert "a pipe" in found["sub-03", "ses-M000"]
    assert "scan of another visit, sub-01/ses-M000" in found["sub-04", "ses-M000"]
    assert "shorten the ids" in found[long, "ses-M000"]


def test_a_link_within_the_data_set_is_followed_as_those_of_git_annex_are(bids):
    (bids / ".git" / "annex").mkdir(parents=True)
    image = bids / "sub-01" / "ses-M000" / "anat" / "sub-01_ses-M000_T1w.nii.gz"
    image.rename(bids / ".git" / "annex" / "MD5E-s0")
    image.symlink_to("../../../.git/annex/MD5E-s0")
    scans, refusals = find_scans(bids)
    assert len(scans) == 3
    assert refusals == []


def test_names_of_any_bytes_and_json_of_any_depth_are_told_in_one_line_of_utf8(bids):
    for name in (b"sub-\xff", b"sub-a\nb", b"sub-a\tb"):
        os.makedirs(os.path.join(os.fsencode(bids), name, b"ses-M000"))
    sidecar = bids / "sub-02" / "ses-M000" / "anat" / "sub-02_ses-M000_T1w.json"
    sidecar.write_text("[" * 100_000)
    scans, refusals = find_scans(bids)
    assert len(scans) == 2
    assert len(refusals) == 4
    assert "too deeply nested" in reasons(refusals)["sub-02", "ses-M000"]
    for row in refusals:
        text = f"{row.participant_id} {row.session_id} {row.reason}"
        assert not set(text) & {"\n", "\t"}
        text.encode()
