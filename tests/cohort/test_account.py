"""Cohorts with labels of their own, in every layout, and everybody accounted for."""

import pytest
from custom_cohort import RULES, make_caps, write, write_qc

from neuroaug.cohort.account import label_cohort
from neuroaug.config.label_settings import LabelRules
from neuroaug.errors import InputError


def custom(tables, caps=None, rules=RULES, **options):
    found = label_cohort(tables, caps, cohort="custom", rules=rules, **options)
    assert found.cohort == "custom"
    accounted = sum(found.account.labelled.values()) + sum(found.account.excluded.values())
    assert accounted == found.account.people
    return found


def labels(found):
    rows = found.labelled[["participant_id", "session_id", "diagnosis"]]
    return {p: (s, label) for p, s, label in rows.itertuples(index=False)}


def rules_of(found):
    return {p: rule for p, _, rule in found.exclusions.itertuples(index=False)}


def test_participants_alone_label_data_without_sessions(tmp_path):
    write(
        tmp_path / "participants.tsv",
        """
        participant_id age gender group
        sub-01 89+ M control
        sub-02 72,4 F Depr
        sub-03 40 F DYSTHYMIA
        sub-04 - F other
        sub-05 50 F n/a
        sub-06 old F control
        """,
    )
    caps = make_caps(tmp_path / "caps", *(f"sub-0{i}_ses-M000" for i in (1, 2, 4, 5, 6, 7)))
    found = custom(tmp_path, caps)
    assert labels(found) == {"sub-01": ("ses-M000", "HC"), "sub-02": ("ses-M000", "MDD")}
    assert list(found.labelled["age"]) == [89.0, 72.4]
    assert rules_of(found) == {
        "sub-03": "no preprocessed T1w image",
        "sub-04": "group 'other' is no label of the study",
        "sub-05": "group missing",
        "sub-06": "age not readable: 'old'",
        "sub-07": "image without a row in the tables",
    }
    account = found.account
    assert (account.people, account.images) == (7, 6)
    assert account.labelled == {"HC": 1, "MDD": 1}
    assert account.images_without_row == ("sub-07_ses-M000",)
    assert account.rows_without_image == ("sub-03",)
    assert account.left_out["group missing"] == ["sub-05"]
    assert found.absent == ("site",)
    assert any("'89+'" in note for note in found.notes)
    assert "7 people: 1 HC, 1 MDD; 5 left out" in account.lines()


LAYOUTS = {
    "rows per session": {
        "participants.tsv": """
            participant_id session_id group age
            sub-1 ses-a control 30
            sub-1 ses-b control 31
            sub-2 ses-a depr 40
            """
    },
    "column called session": {
        "participants.tsv": """
            participant_id session group age
            sub-1 a control 30
            sub-1 b control 31
            sub-2 a depr 40
            """
    },
    "a file of sessions each": {
        "participants.tsv": "participant_id sex\nsub-1 F\nsub-2 M",
        "sub-1/sub-1_sessions.tsv": "session_id group\nses-a control\nses-b control",
        "sub-2/sub-2_sessions.tsv": "session_id group\nses-a depr",
    },
    "merged": {
        "merged.tsv": """
            participant_id session_id group
            sub-2 ses-a depr
            sub-1 ses-b control
            sub-1 ses-a control
            """
    },
    "once a person": {
        "participants.tsv": "participant_id group\nsub-1 control\nsub-2 depr",
        "sub-1/sub-1_sessions.tsv": "session_id age\nses-a 30\nses-b 31",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_labels(tmp_path, layout):
    for name, text in LAYOUTS[layout].items():
        write(tmp_path / name, text)
    caps = make_caps(tmp_path / "caps", "sub-1_ses-a", "sub-1_ses-b", "sub-2_ses-a")
    assert labels(custom(tmp_path, caps)) == {"sub-1": ("ses-a", "HC"), "sub-2": ("ses-a", "MDD")}


def test_a_phenotype_table_may_leave_prefix_and_zeros_out(tmp_path):
    write(tmp_path / "participants.tsv", "participant_id age\nsub-01 30\nsub-02 40\nsub-03 50")
    write(tmp_path / "phenotype" / "mood.tsv", "participant_id Group\n1 1\n2 2.0")
    rules = LabelRules(
        column="group",
        file="phenotype/mood.tsv",
        values={"HC": ("1",), "MDD": ("2",)},
        positive="MDD",
    )
    found = custom(tmp_path, rules=rules)
    assert labels(found) == {"sub-01": ("ses-M000", "HC"), "sub-02": ("ses-M000", "MDD")}
    assert rules_of(found) == {"sub-03": "group missing"}
    assert list(found.labelled["age"]) == [30.0, 40.0]
    assert any("2 people matched by another spelling" in note for note in found.notes)
    with pytest.raises(InputError, match=r"absent\.tsv: no such table.*phenotype/mood\.tsv"):
        custom(tmp_path, rules=rules.model_copy(update={"file": "absent.tsv"}))
    with pytest.raises(InputError, match="no column 'mood', which labels"):
        custom(tmp_path, rules=rules.model_copy(update={"column": "mood"}))


@pytest.mark.parametrize("changing", ["exclude", "first"])
@pytest.mark.parametrize(
    ("second", "said"), [("depr", "HC to MDD"), ("other", "HC to 'other'"), ("control", None)]
)
def test_people_whose_label_changes_are_left_out_unless_the_first_counts(
    tmp_path, changing, second, said
):
    write(
        tmp_path / "participants.tsv",
        f"participant_id session_id group\nsub-1 ses-2 control\nsub-1 ses-10 {second}",
    )
    found = custom(tmp_path, rules=RULES.model_copy(update={"changing": changing}))
    if changing == "first" or said is None:
        assert labels(found) == {"sub-1": ("ses-2", "HC")}
    else:
        assert rules_of(found) == {"sub-1": f"group changes from {said}"}


@pytest.mark.parametrize(
    ("column", "values", "how"),
    [
        ("acq_time", ("2020-02-01T10:00:00", "2019-02-01T10:00:00"), "by date"),
        ("age", ("41", "40"), "by age"),
        ("note", ("x", "y"), "by name"),
    ],
)
def test_sessions_are_ordered_by_what_the_tables_tell_and_it_is_said(tmp_path, column, values, how):
    write(tmp_path / "participants.tsv", "participant_id group\nsub-1 depr")
    write(
        tmp_path / "sub-1" / "sub-1_sessions.tsv",
        f"session_id {column}\nses-pre {values[0]}\nses-post {values[1]}",
    )
    caps = make_caps(tmp_path / "caps", "sub-1_ses-pre", "sub-1_ses-post")
    found = custom(tmp_path, caps)
    assert labels(found)["sub-1"][0] == "ses-post"
    assert any(f"order of sessions: {how}" in note for note in found.notes)


def test_the_first_session_that_has_both_image_and_label_is_the_baseline(tmp_path):
    write(
        tmp_path / "participants.tsv",
        """
        participant_id session_id group
        sub-1 ses-M00 control
        sub-1 ses-M06 n/a
        sub-1 ses-M12 control
        """,
    )
    caps = make_caps(tmp_path / "caps", "sub-1_ses-M006", "sub-1_ses-M012")
    assert labels(custom(tmp_path, caps)) == {"sub-1": ("ses-M012", "HC")}


def test_a_participants_label_does_not_stand_in_for_a_sessions(tmp_path):
    write(tmp_path / "participants.tsv", "participant_id group\nsub-1 depr\nsub-2 depr")
    write(tmp_path / "sub-1" / "sub-1_sessions.tsv", "session_id group\nses-1 n/a")
    write(tmp_path / "sub-2" / "sub-2_sessions.tsv", "session_id group\nses-1 control")
    found = custom(tmp_path)
    assert labels(found) == {"sub-2": ("ses-1", "HC")}
    assert rules_of(found) == {"sub-1": "group missing"}
    assert any("does not stand in" in note for note in found.notes)


def test_a_visit_that_the_quality_check_did_not_see_is_left_out_for_that(tmp_path):
    write(
        tmp_path / "participants.tsv",
        "participant_id group\nsub-1 control\nsub-2 control\nsub-3 depr",
    )
    caps = make_caps(tmp_path / "caps", *(f"sub-{i}_ses-M000" for i in (1, 2, 3)))
    write_qc(caps, sub_1_ses_M000=True, sub_2_ses_M000=False)
    found = custom(tmp_path, caps)
    assert rules_of(found) == {"sub-2": "quality check failed", "sub-3": "not in qc.tsv"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("sub-1 ses-M00 control\nsub-1 ses-M000 control", "ses-M00 and ses-M000, two spellings"),
        ("sub-1 ses-1 control\nsub-1 ses-1 depr", "line 3: sub-1 ses-1 stands twice"),
        ("sub-a ses-1 control\nsub-A ses-2 control", "differ by upper and lower case only"),
        ("1 ses-1 control\nsub-01 ses-2 control", "are two spellings of one name"),
        ("n/a ses-1 control", "line 2 has no participant_id"),
        ("sub_1 ses-1 control", "'sub_1' is not sub-"),
        ("sub-1 ses_1 control", "session 'ses_1' is not ses-"),
    ],
)
def test_one_person_or_visit_under_two_names_is_refused(tmp_path, rows, message):
    write(tmp_path / "participants.tsv", f"participant_id session_id group\n{rows}")
    with pytest.raises(InputError, match=message):
        custom(tmp_path)


def test_one_session_under_two_names_in_a_caps_is_refused(tmp_path):
    write(tmp_path / "participants.tsv", "participant_id group\nsub-1 control")
    caps = make_caps(tmp_path / "caps", "sub-1_ses-M00", "sub-1_ses-M000")
    with pytest.raises(InputError, match="sub-1 has ses-M00 and ses-M000, two spellings of one"):
        custom(tmp_path, caps)


@pytest.mark.parametrize(
    ("written", "folder", "found"),
    [("1", "sub-01", "sub-01"), ("sub-a1", "sub-A1", "sub-A1"), ("7", "sub-8", "sub-7")],
)
def test_people_are_matched_with_their_folders(tmp_path, written, folder, found):
    write(tmp_path / "participants.tsv", f"participant_id group\n{written} control")
    (tmp_path / folder).mkdir()
    assert list(custom(tmp_path).labelled["participant_id"]) == [found]


def test_an_id_that_two_folders_fit_is_refused(tmp_path):
    write(tmp_path / "participants.tsv", "participant_id group\n1 control")
    for name in ("sub-01", "sub-001"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="1 may be sub-001 and sub-01"):
        custom(tmp_path)


def test_sex_and_gender_must_agree(tmp_path):
    table = "participant_id group sex gender\nsub-1 control M male\nsub-2 depr F {}"
    write(tmp_path / "participants.tsv", table.format("n/a"))
    assert list(custom(tmp_path).labelled["sex"]) == ["M", "F"]
    write(tmp_path / "participants.tsv", table.format("M"))
    with pytest.raises(InputError, match=r"two columns for sex that differ \(sex F and gender M\)"):
        custom(tmp_path)
