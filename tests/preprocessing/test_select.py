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


def test_of_several_runs_the_last_by_number_is_taken_as_clinica_does_and_said(bids):
    add(bids, "sub-03", "ses-M000", "run-10_T1w.nii.gz", "run-2_T1w.nii.gz")
    scan = find_scans(bids)[0][-1]
    assert scan.path.name == "sub-03_ses-M000_run-10_T1w.nii.gz"
    assert "the last run, as Clinica 0.12" in scan.note
    assert "not sub-03_ses-M000_run-2_T1w.nii.gz" in scan.note


@pytest.mark.parametrize(
    ("names", "taken", "said"),
    [
        (("T1w", "ce-gadolinium_T1w"), "T1w", "not contrast agent"),
        (("acq-mprage_ce-gd_T1w", "acq-mprage_T1w"), "acq-mprage_T1w", "not contrast agent"),
        (("acq-cspine_T1w", "run-1_T1w", "run-2_T1w"), "run-2_T1w", "not of the brain"),
        (("acq-localizer_T1w", "acq-mprage_T1w"), "acq-mprage_T1w", "not localiser"),
        (("acq-scout_T1w", "rec-norm_T1w"), "rec-norm_T1w", "not localiser"),
        (("part-phase_T1w", "part-mag_T1w"), "part-mag_T1w", "not part-phase"),
        (("acq-a_T1w", "T1w"), "T1w", "the fewest entities"),
        (("acq-b_run-1_T1w", "acq-b_run-2_T1w", "acq-c_T1w"), "acq-b_run-2_T1w", "the last run"),
    ],
)
def test_contrast_agents_other_organs_and_localisers_are_never_chosen_beside_a_head(
    bids, names, taken, said
):
    for order in (names, names[::-1]):
        folder = f"sub-{'x' if order is names else 'y'}"
        add(bids, folder, "ses-M000", *(f"{name}.nii.gz" for name in order))
        scan = next(s for s in find_scans(bids)[0] if s.visit.participant_id == folder)
        assert scan.path.name == f"{folder}_ses-M000_{taken}.nii.gz"
        assert said in scan.note


def test_an_odd_scan_that_is_the_only_one_is_taken_and_said(bids):
    add(bids, "sub-03", "ses-M000", "ce-gadolinium_T1w.nii.gz")
    scan = find_scans(bids)[0][-1]
    assert "contrast agent; there was no other" in scan.note


def test_a_filter_overrides_the_rule(bids, tmp_path):
    add(bids, "sub-03", "ses-M000", "ce-gadolinium_T1w.nii.gz", "T1w.nii.gz")
    path = tmp_path / "filter.json"
    path.write_text('{"t1w": {"ceagent": "gadolinium"}}')
    scan = find_scans(bids, select(["03"], bids_filter=path))[0][0]
    assert scan.path.name == "sub-03_ses-M000_ce-gadolinium_T1w.nii.gz"


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ({"acquisition": "mprage"}, "acq-mprage_run-02_T1w.nii.gz"),
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
    add(bids, "sub-03", "ses-M000")
    (bids / "sub-03" / "anat").mkdir(parents=True)
    (bids / "sub-03" / "anat" / "sub-03_T1w.nii.gz").write_bytes(b"")
    add(bids, "sub-04", "ses-M_00")
    (bids / "sub-05" / "ses-M000" / "anat").mkdir(parents=True)
    (bids / "sub-05" / "ses-M000" / "anat" / "sub-05_ses-M012_T1w.nii.gz").write_bytes(b"")
    found = reasons(find_scans(bids)[1])
    assert "outside a session folder, beside ses-M000" in found["sub-03", "n/a"]
    assert "ses-M_00" in found["sub-04", "ses-M_00"]
    assert "does not belong to its folder" in found["sub-05", "ses-M000"]


@pytest.mark.parametrize("name", ["T1w.nii.gz", "run-2_T1w.nii.gz", "acq-mprage_T1w.nii"])
def test_a_participant_without_a_session_level_has_the_session_m000(bids, name):
    folder = bids / "sub-03" / "anat"
    folder.mkdir(parents=True)
    (folder / f"sub-03_{name}").write_bytes(b"")
    scans, refusals = find_scans(bids)
    assert visits(scans)[-1] == "sub-03 ses-M000"
    assert scans[-1].path == folder / f"sub-03_{name}"
    assert refusals == []


def test_without_a_session_level_a_name_with_a_session_is_refused(bids):
    folder = bids / "sub-03" / "anat"
    folder.mkdir(parents=True)
    (folder / "sub-03_ses-M012_T1w.nii.gz").write_bytes(b"")
    assert "does not belong" in reasons(find_scans(bids)[1])["sub-03", "ses-M000"]


@pytest.mark.parametrize("session", ["ses-pre", "ses-1", "ses-20240131", "ses-M6"])
def test_sessions_of_any_name_are_kept(bids, session):
    add(bids, "sub-03", session)
    assert visits(find_scans(bids)[0])[-1] == f"sub-03 {session}"


def test_hidden_files_are_passed_over(bids):
    folder = bids / "sub-01" / "ses-M000" / "anat"
    (folder / "._sub-01_ses-M000_T1w.nii.gz").write_bytes(b"\0\5\x16\7")
    (bids / "._sub-01").write_bytes(b"")
    (bids / "sub-01" / "._ses-M000").write_bytes(b"")
    (bids / "sub-01" / ".ses-M001").mkdir()
    scans, refusals = find_scans(bids)
    assert len(scans) == 3
    assert scans[0].note == ""
    assert refusals == []


def test_a_dangling_link_of_git_annex_says_how_to_get_the_scan(bids):
    for participant, target in (
        ("sub-03", "../../../.git/annex/objects/aa/bb/MD5E-s1--c.nii.gz/MD5E-s1--c.nii.gz"),
        ("sub-04", "nowhere.nii.gz"),
    ):
        folder = bids / participant / "ses-M000" / "anat"
        folder.mkdir(parents=True)
        (folder / f"{participant}_ses-M000_T1w.nii.gz").symlink_to(target)
    (bids / "sub-05").symlink_to("../lost")
    scans, refusals = find_scans(bids)
    assert len(scans) == 3
    found = reasons(refusals)
    assert "not downloaded; run `datalad get`" in found["sub-03", "ses-M000"]
    assert "link to a file that is not there" in found["sub-04", "ses-M000"]
    assert "link to a file that is not there" in found["sub-05", "n/a"]


@pytest.mark.parametrize(
    "content", ["{'EchoTime': 0}", b"\xef\xbb\xbf{}", '{"Site": "Orléans"}'.encode("latin-1")]
)
def test_a_sidecar_that_cannot_be_read_is_a_warning_and_the_scan_is_taken(bids, content):
    sidecar = bids / "sub-02" / "ses-M000" / "anat" / "sub-02_ses-M000_T1w.json"
    sidecar.write_bytes(content if isinstance(content, bytes) else content.encode())
    scans, refusals = find_scans(bids)
    assert len(scans) == 3
    assert refusals == []
    assert "nothing of it is used" in scans[-1].note


def test_links_are_followed_for_reading_wherever_they_lead(bids, tmp_path):
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
    assert visits(scans)[-3:] == [f"sub-0{i} ses-M000" for i in (3, 4, 5)]
    assert refusals == []


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
    assert len(scans) == 3
    assert len(refusals) == 3
    assert "too deeply nested" in scans[-1].note
    for row in refusals:
        text = f"{row.participant_id} {row.session_id} {row.reason}"
        assert not set(text) & {"\n", "\t"}
        text.encode()
