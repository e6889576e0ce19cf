"""Shared by processes, killed or interrupted: nothing is lost or half-written. A stand-in writes
the files.
"""

import random
import signal
import subprocess
import time

import pytest
from visits import command, failures, many, scan, tree

from neuroaug.imaging import caps as caps_names
from neuroaug.preprocessing import records
from neuroaug.preprocessing.preprocess import preprocess


def test_two_processes_share_a_caps_and_do_every_visit_once(tmp_path, stand_in, done, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.2")
    bids = many(tmp_path / "bids", 20)
    both = [
        subprocess.Popen(command(tmp_path / "caps", bids), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    counts = [list(map(int, process.communicate(timeout=120)[0].split()[-3:])) for process in both]
    work = done()
    assert len(work) == len(set(work)) == 20
    assert sum(n_ok for n_ok, _, _ in counts) == 17
    assert [n_failed for _, n_failed, _ in counts] == [3, 3]
    preprocess(tmp_path / "alone", bids=bids, **stand_in)
    assert tree(tmp_path / "caps") == tree(tmp_path / "alone")


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.15")
    bids = many(tmp_path / "bids", 16)
    caps, moments = tmp_path / "caps", random.Random(5)
    for _ in range(3):
        process = subprocess.Popen(command(caps, bids), stdout=subprocess.DEVNULL)
        time.sleep(1.0 + moments.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (
        subprocess.run(command(caps, bids), check=False, stdout=subprocess.DEVNULL).returncode == 0
    )
    preprocess(tmp_path / "alone", bids=bids, **stand_in)
    assert tree(caps) == tree(tmp_path / "alone")
    assert not list((caps / ".neuroaug" / "work").iterdir())
    assert not list(caps.rglob(".tmp-*"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_whole_visits_only(tmp_path, stand_in, monkeypatch, number, status):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.4")
    bids = many(tmp_path / "bids", 30)
    caps = tmp_path / "caps"
    process = subprocess.Popen(
        command(caps, bids), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not any('"ok"' in path.read_text() for path in caps.glob(".neuroaug/visits/sub-*")):
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (status, -number)
    if number == signal.SIGINT:
        assert "finishing" in error
    assert not list(caps.rglob(".tmp-*"))
    begun = caps_names.list_visits(caps)
    assert 0 < len(begun) < 25
    assert all(records.read_record(caps, visit).status == "ok" for visit in begun)
    assert {p.name for p in caps.glob("subjects/*")} == {visit.participant_id for visit in begun}
    assert not list((caps / ".neuroaug" / "locks").iterdir())


def test_two_hundred_visits_are_all_accounted_for_though_workers_crash_at_random(
    tmp_path, stand_in
):
    """A visit whose worker crashes, hangs or is killed is one row, and nothing of it stays; all
    others are done.
    """
    bids, caps, rng = tmp_path / "bids", tmp_path / "caps", random.Random(7)
    ends = {
        "crash": ("crash", "SIGSEGV"),
        "killed": ("crash", "probably out of memory"),
        "hungry": ("preprocess", "out of memory"),
        "stuck": ("timeout", "time limit of 8 s"),
        "broken": ("", "broken"),
    }
    bad = {f"sub-{i:03d}": rng.choice(list(ends)) for i in range(200) if rng.random() < 0.08}
    assert set(bad.values()) == set(ends)
    for i in range(200):
        scan(bids, f"sub-{i:03d}", content=bad.get(f"sub-{i:03d}", f"scan {i}").encode())
    config = stand_in["config"].model_copy(update={"timeout_s": 8})
    summary = preprocess(caps, bids=bids, n_procs=3, **{**stand_in, "config": config})
    assert (summary.n_ok, summary.n_failed) == (200 - len(bad), len(bad))
    rows = failures(caps)
    assert {participant for participant, _ in rows} == set(bad)
    for (participant, _), (stage, reason) in rows.items():
        expected_stage, expected = ends[bad[participant]]
        assert expected in reason
        assert stage == expected_stage or not expected_stage
    there = {path.name for path in (caps / "subjects").iterdir()}
    assert there == {f"sub-{i:03d}" for i in range(200)} - set(bad)
    assert {visit.participant_id for visit in records.passed_visits(caps)} == there
    assert not list(caps.rglob(".tmp-*"))
    assert not list((caps / ".neuroaug" / "work").iterdir())
    again = preprocess(caps, bids=bids, n_procs=3, **{**stand_in, "config": config})
    assert (again.n_ok, again.n_failed, again.n_skipped) == (0, len(bad), len(there))


def test_the_claim_of_a_process_killed_after_its_visit_was_recorded_is_swept(
    tmp_path, bids, stand_in
):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    before = tree(caps)
    (caps / ".neuroaug" / "locks" / "sub-A_ses-M000.lock").touch()
    assert preprocess(caps, bids=bids, **stand_in).n_skipped == 4
    assert tree(caps) == before
