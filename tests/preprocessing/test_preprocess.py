"""Preprocessing a cohort: what is done, what is left alone, what is told. A stand-in writes the
files.
"""

import json
import os

import pytest
from visits import SMALL, failures, scan, tree

from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.preprocessing import memory_plan, records
from neuroaug.preprocessing import plan as planning
from neuroaug.preprocessing.preprocess import preprocess


def test_every_visit_is_done_once_and_the_caps_is_one(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    summary = preprocess(caps, bids=bids, n_procs=2, **stand_in)
    assert (summary.n_ok, summary.n_failed, summary.n_skipped) == (4, 0, 0)
    assert len(done()) == 4
    assert [str(v) for v in caps_names.list_visits(caps)] == [
        "sub-A ses-M000", "sub-A ses-M012", "sub-B ses-M000", "sub-C ses-M000",
    ]  # fmt: skip
    description = json.loads(
        (caps_names.require_caps(caps) / "dataset_description.json").read_text()
    )
    assert description["Name"] == "t1-linear of a phantom cohort"
    assert not {str(tmp_path), os.uname().nodename} & set(json.dumps(description).split('"'))
    before = tree(caps)
    again = preprocess(caps, bids=bids, n_procs=2, **stand_in)
    assert (again.n_ok, again.n_failed, again.n_skipped) == (0, 0, 4)
    assert done() == []
    assert tree(caps) == before


def test_no_file_of_the_caps_names_the_machine_or_its_folders(tmp_path, bids, stand_in):
    scan(bids, "sub-B", content=b"broken")
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    text = b"".join(path.read_bytes() for path in caps.rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in text
    assert os.uname().nodename.encode() not in text


def test_bytes_do_not_depend_on_how_many_work_at_a_time(tmp_path, bids, stand_in):
    for name, n in (("one", 1), ("three", 3)):
        preprocess(tmp_path / name, bids=bids, n_procs=n, **stand_in)
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_a_failed_visit_is_told_and_the_others_go_on(tmp_path, bids, stand_in, done):
    scan(bids, "sub-B", content=b"broken")
    scan(bids, "sub-C", content=b"crash")
    caps = tmp_path / "caps"
    summary = preprocess(caps, bids=bids, n_procs=2, **stand_in)
    assert (summary.n_ok, summary.n_failed) == (2, 2)
    found = failures(caps)
    assert found["sub-B", "ses-M000"][1] == "sub-B/ses-M000/anat/sub-B_ses-M000_T1w.nii.gz: broken"
    assert found["sub-C", "ses-M000"][0] == "crash"
    assert "SIGSEGV" in found["sub-C", "ses-M000"][1]
    assert sorted(path.name for path in (caps / "subjects").iterdir()) == ["sub-A"]
    assert not list(caps.rglob(".tmp-*"))


def test_a_failed_visit_is_tried_again_when_asked_or_when_its_scan_changes(
    tmp_path, bids, stand_in, done
):
    caps = tmp_path / "caps"
    scan(bids, "sub-B", content=b"broken")
    preprocess(caps, bids=bids, **stand_in)
    done()
    summary = preprocess(caps, bids=bids, **stand_in)
    assert (summary.n_ok, summary.n_failed, summary.n_skipped) == (0, 1, 3)
    assert done() == []
    assert preprocess(caps, bids=bids, rerun_failed=True, **stand_in).n_failed == 1
    assert done() == ["sub-B ses-M000 process"]
    scan(bids, "sub-B", content=b"mended")
    summary = preprocess(caps, bids=bids, **stand_in)
    assert (summary.n_ok, summary.n_failed, summary.n_skipped) == (1, 0, 3)
    assert failures(caps) == {}


def test_a_visit_is_done_again_when_scan_or_request_change_or_a_file_is_lost(
    tmp_path, bids, stand_in, done
):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    scan(bids, "sub-B", content=b"another scan")
    caps_names.t1_linear_image(caps, Visit("sub-C", "ses-M000")).unlink()
    os.utime(scan(bids, "sub-A", content=b"sub-A"))
    preprocess(caps, bids=bids, **stand_in)
    assert done() == ["sub-B ses-M000 process", "sub-C ses-M000 process"]
    other = {**stand_in, "config": SMALL.model_copy(update={"profile": "exact"})}
    preprocess(caps, bids=bids, **other)
    assert len(done()) == 4


def test_files_without_their_record_are_done_again(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    records.remove_record(caps, Visit("sub-B", "ses-M000"))
    preprocess(caps, bids=bids, **stand_in)
    assert done() == ["sub-B ses-M000 process"]


def test_a_resolution_asked_for_later_is_added_without_registering_again(
    tmp_path, bids, stand_in, done
):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    preprocess(
        caps,
        bids=bids,
        **{**stand_in, "config": SMALL.model_copy(update={"resolutions": ("1mm", "4mm")})},
    )
    assert {line.split()[-1] for line in done()} == {"complete"}
    preprocess(caps, **stand_in)
    assert done() == []


def test_labels_parts_and_tables_choose_visits(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, participants=["A"], sessions=["M012"], **stand_in)
    assert done() == ["sub-A ses-M012 process"]
    table = tmp_path / "visits.tsv"
    table.write_text("participant_id\tsession_id\nsub-B\tses-M000\n")
    preprocess(caps, bids=bids, visits_tsv=table, **stand_in)
    assert done() == ["sub-B ses-M000 process"]
    for i in (1, 2, 3):
        preprocess(caps, bids=bids, part=(i, 3), **stand_in)
    assert done() == ["sub-A ses-M000 process", "sub-C ses-M000 process"]


def test_parts_do_not_remove_each_others_failures(tmp_path, bids, stand_in):
    caps = tmp_path / "caps"
    for participant in ("sub-A", "sub-B", "sub-C"):
        scan(bids, participant, content=b"broken")
    (bids / "sub-D").mkdir()
    (bids / "participants.tsv").write_text("participant_id\nsub-A\nsub-B\nsub-C\nsub-E\n../F\n")
    for i in (1, 2, 3):
        preprocess(caps, bids=bids, part=(i, 3), **stand_in)
    assert set(failures(caps)) == {
        ("sub-A", "ses-M000"), ("sub-B", "ses-M000"), ("sub-C", "ses-M000"),
        ("sub-D", "n/a"), ("sub-E", "n/a"), ("../F", "n/a"),
    }  # fmt: skip


def test_a_dry_run_tells_and_writes_nothing(tmp_path, bids, stand_in, capsys):
    scan(bids, "sub-B", content=b"x")
    (bids / "sub-B" / "ses-M000" / "anat" / "sub-B_ses-M000_run-2_T1w.nii.gz").write_bytes(b"")
    before = tree(tmp_path)
    summary = preprocess(tmp_path / "caps", bids=bids, dry_run=True, **stand_in)
    assert tree(tmp_path) == before
    assert not (tmp_path / "caps").exists()
    assert summary.hours * 3600 == pytest.approx(4 * planning.SECONDS["fast"])
    output = capsys.readouterr().out
    assert "4 visits to preprocess" in output
    assert "hours" in output
    assert "took sub-B_ses-M000_T1w.nii.gz" in output


def test_more_visits_at_a_time_than_cores_promise_no_shorter_time(
    tmp_path, bids, stand_in, monkeypatch
):
    monkeypatch.setattr(planning, "n_cores", lambda: 2)
    hours = [
        preprocess(tmp_path / "c", bids=bids, dry_run=True, n_procs=n, **stand_in).hours
        for n in (1, 2, 4)
    ]
    assert hours[0] == 2 * hours[1] == 2 * hours[2]


def test_without_a_budget_the_machines_memory_is_the_budget(tmp_path, bids, stand_in, monkeypatch):
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 500 * 10**6)
    for module in (planning, memory_plan):
        monkeypatch.setattr(module, "MEMORY_MB", {"fast": 100.0})
    scan(bids, "sub-B", content=b"large")
    summary = preprocess(tmp_path / "caps", bids=bids, n_procs=2, **stand_in)
    assert (summary.n_ok, summary.n_failed) == (3, 1)
    stage, reason = failures(tmp_path / "caps")["sub-B", "ses-M000"]
    assert stage == "memory"
    assert "450 MB are allowed" in reason


def test_a_time_limit_costs_one_visit(tmp_path, bids, stand_in):
    scan(bids, "sub-B", content=b"hang")
    config = SMALL.model_copy(update={"timeout_s": 1.5})
    summary = preprocess(tmp_path / "caps", bids=bids, **{**stand_in, "config": config})
    assert (summary.n_ok, summary.n_failed) == (3, 1)
    assert failures(tmp_path / "caps")["sub-B", "ses-M000"][0] == "timeout"


def test_the_quality_pages_show_every_visit(tmp_path, bids, stand_in):
    preprocess(tmp_path / "caps", bids=bids, **stand_in)
    page = (tmp_path / "caps" / "qc.html").read_text()
    assert page.count("<figure") == 4
    assert "phantom" in page
