"""Records of visits, the root tables made from them, and the user's decisions."""

import multiprocessing

import pandas as pd
import pytest
from visits import decide

from neuroaug.errors import InputError
from neuroaug.imaging.bids import Visit
from neuroaug.preprocessing import records
from neuroaug.preprocessing.claims import claim_visit
from neuroaug.preprocessing.records import Record
from neuroaug.preprocessing.refusal import Refusal
from neuroaug.system.locks import Claim, scratch_folder

A, B, C = (Visit(f"sub-{name}", "ses-M000") for name in ("A", "B", "C"))


def ok(probability=0.9, passed=True):
    return Record("ok", quality={"pass_probability": probability, "pass": passed})


def failed(reason="constant image"):
    return Record("failed", stage="read", reason=reason)


def test_a_record_comes_back_and_a_torn_one_counts_as_none(tmp_path):
    record = Record(
        "ok", input={"size": 3}, files={"a": 1}, quality={"pass": True}, note="two runs"
    )
    records.write_record(tmp_path, A, record)
    assert records.read_record(tmp_path, A) == record
    next((tmp_path / ".neuroaug" / "visits").iterdir()).write_text('{"status": "o')
    assert records.read_record(tmp_path, A) is None
    assert records.read_record(tmp_path, B) is None


def test_failures_are_listed_sorted_and_removed_by_a_later_success(tmp_path):
    records.update_tables(tmp_path, {B: failed('"quoted"\treason'), A: failed(), C: ok()})
    lines = (tmp_path / "failures.tsv").read_text().splitlines()
    assert lines[0] == "participant_id\tsession_id\tstage\treason"
    assert [row.participant_id for row in records.read_failures(tmp_path)] == ["sub-A", "sub-B"]
    records.update_tables(tmp_path, {A: ok()})
    assert records.read_failures(tmp_path) == [
        Refusal("sub-B", "ses-M000", "read", '"quoted"\treason')
    ]


def test_no_failure_leaves_a_table_with_its_header(tmp_path):
    records.update_tables(tmp_path, {A: ok()})
    assert (tmp_path / "failures.tsv").read_text() == "participant_id\tsession_id\tstage\treason\n"


def test_planned_rows_are_replaced_only_where_this_plan_looked(tmp_path):
    first = [
        Refusal("sub-X", "n/a", "select", "no T1w"),
        Refusal("sub-Y", "n/a", "tables", "2 rows"),
    ]
    records.update_tables(tmp_path, {}, first)
    records.update_tables(tmp_path, {}, [], planned=lambda row: row.participant_id == "sub-X")
    assert records.read_failures(tmp_path) == [first[1]]


def test_qc_is_what_clinicadls_quality_check_writes(tmp_path):
    records.update_tables(tmp_path, {B: ok(0.2, False), A: ok(0.98765), C: failed()})
    assert (tmp_path / "qc.tsv").read_text() == (
        "participant_id\tsession_id\tpass_probability\tpass\n"
        "sub-A\tses-M000\t0.9877\tTrue\nsub-B\tses-M000\t0.2000\tFalse\n"
    )
    assert records.passed_visits(tmp_path) == [A]


def test_decisions_overrule_in_the_table_and_in_the_reader(tmp_path):
    records.update_tables(tmp_path, {A: ok(), B: ok(0.2, False)})
    (tmp_path / "qc-decisions.tsv").write_text(
        "participant_id\tsession_id\tpass\nsub-A\tses-M000\tfalse\nsub-B\tses-M000\tTrue\n"
    )
    assert records.passed_visits(tmp_path) == [B]
    records.update_tables(tmp_path, {C: ok()})
    table = pd.read_csv(tmp_path / "qc.tsv", sep="\t")
    assert table["pass"].tolist() == [False, True, True]
    assert records.passed_visits(tmp_path) == [B, C]
    decide(tmp_path, C, False)
    assert records.passed_visits(tmp_path) == [B]


def test_taking_a_decision_back_restores_the_verdict_of_the_score_at_the_next_run(tmp_path):
    records.update_tables(tmp_path, {A: ok()})
    decide(tmp_path, A, False)
    assert records.passed_visits(tmp_path) == []
    (tmp_path / "qc-decisions.tsv").unlink()
    records.update_tables(tmp_path, {A: ok()})
    assert records.passed_visits(tmp_path) == [A]


def test_without_any_table_nobody_looked(tmp_path):
    assert records.passed_visits(tmp_path) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("sub-A\tses-M000\tperhaps", "line 2: pass is 'perhaps'"),
        ("A_B\tses-M000\tTrue", "line 2: 'A_B'"),
        (
            "sub-A\tses-M000\tTrue\nsub-A\tses-M000\tFalse",
            "line 3: sub-A ses-M000 stands there with both",
        ),
    ],
)
def test_decisions_that_say_nothing_are_one_line(tmp_path, row, message):
    (tmp_path / "qc-decisions.tsv").write_text(f"participant_id\tsession_id\tpass\n{row}\n")
    with pytest.raises(InputError, match=message):
        records.read_decisions(tmp_path)


def _add(caps, first):
    for number in range(first, first + 15):
        records.update_tables(caps, {Visit(f"sub-{number:03d}", "ses-M000"): failed()})


def test_two_processes_do_not_lose_each_others_rows(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_add, args=(tmp_path, first)) for first in (0, 100)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert len(records.read_failures(tmp_path)) == 30


def test_a_claim_excludes_others_until_it_is_released(tmp_path):
    claim = claim_visit(tmp_path, A)
    assert claim is not None
    assert claim_visit(tmp_path, A) is None
    other = claim_visit(tmp_path, B)
    assert other is not None
    other.release()
    claim.release()
    claim.release()
    assert list((tmp_path / ".neuroaug" / "locks").iterdir()) == []
    with Claim.take(tmp_path / "x.lock") as again:
        assert again is not None


def test_scratch_of_a_killed_process_is_removed_by_the_next(tmp_path):
    (tmp_path / "run-1-killed").mkdir()
    (tmp_path / "run-1-killed" / "left").write_text("x")
    (tmp_path / "run-1-killed.lock").touch()
    with scratch_folder(tmp_path) as own, scratch_folder(tmp_path) as second:
        assert not (tmp_path / "run-1-killed").exists()
        assert own.is_dir()
        assert own != second
    assert list(tmp_path.iterdir()) == []


def decided(caps, *rows):
    (caps / "qc-decisions.tsv").write_text(
        "participant_id\tsession_id\tpass\n" + "".join("\t".join(row) + "\n" for row in rows)
    )
    return records.read_decisions(caps)


@pytest.fixture
def two_visits(tmp_path):
    """A CAPS with the visits sub-01 and sub-02 ses-M000, both passed."""
    for person in ("sub-01", "sub-02"):
        (tmp_path / "subjects" / person / "ses-M000" / "t1_linear").mkdir(parents=True)
    (tmp_path / "qc.tsv").write_text(
        "participant_id\tsession_id\tpass_probability\tpass\n"
        "sub-01\tses-M000\t.9\tTrue\nsub-02\tses-M000\t.9\tTrue\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("participant", "session"),
    [
        ("sub-01", "ses-M00"),
        ("sub-01", "ses-M0"),
        ("SUB-01", "ses-m000"),
        ("01", "M000"),
        ("1", "M00"),
    ],
)
def test_a_decision_counts_however_its_visit_is_spelled(two_visits, participant, session):
    assert decided(two_visits, (participant, session, "False")) == {
        Visit("sub-01", "ses-M000"): False
    }
    assert records.passed_visits(two_visits) == [Visit("sub-02", "ses-M000")]


@pytest.mark.parametrize(
    ("participant", "session"),
    [("sub-10", "ses-M000"), ("sub-01", "ses-M006"), ("sub-O1", "ses-M000")],
)
def test_a_decision_about_no_visit_is_refused_by_its_line(two_visits, participant, session):
    with pytest.raises(InputError, match=rf"line 3: {participant} {session} is no visit"):
        decided(two_visits, ("sub-02", "ses-M000", "True"), (participant, session, "False"))


def test_two_spellings_with_two_verdicts_are_refused(two_visits):
    with pytest.raises(InputError, match="both verdicts"):
        decided(two_visits, ("sub-01", "ses-M00", "True"), ("sub-01", "ses-M000", "False"))
