"""Who is CN, who is AD, and the rule by which everyone else is left out."""

import pandas as pd
import pytest

from neuroaug.cohort.demographics import demographics
from neuroaug.cohort.labels import assign_labels, fill_diagnoses
from neuroaug.errors import InputError


def history(participant, diagnoses, *, screening=None, age=70.0, first=0, **values):
    """Visits every six months from `first`; a dash is a missing diagnosis."""
    rows = []
    for i, diagnosis in enumerate(diagnoses.split()):
        months = first + 6 * i
        rows.append(
            {
                "participant_id": participant,
                "session_id": f"ses-M{months:03d}",
                "months": months,
                "diagnosis": None if diagnosis == "-" else diagnosis,
                "screening": screening,
                "age": age,
                "sex": "F",
                "site": "1",
                "mmse": 28.0,
                "cdr": None,
                **values,
            }
        )
    return rows


def visits(*histories):
    table = pd.DataFrame([row for rows in histories for row in rows])
    return table.astype(object).where(table.notna(), None)


def labels(labelled):
    return dict(zip(labelled["participant_id"], labelled["diagnosis"], strict=True))


def rules(exclusions):
    return {p: (s, r) for p, s, r in exclusions.itertuples(index=False)}


def test_stable_participants_are_labelled_and_the_others_listed_by_rule():
    table = visits(
        history("sub-1", "CN CN CN"),
        history("sub-2", "AD - AD"),
        history("sub-3", "CN MCI CN"),
        history("sub-4", "MCI AD"),
        history("sub-5", "AD MCI"),
        history("sub-6", "- CN CN"),
        history("sub-7", "CN CN", screening="SMC"),
        history("sub-8", "CN CN", first=6),
        history("sub-9", "CN - -"),
        history("sub-10", "CN - MCI"),
    )
    labelled, exclusions = assign_labels(table, "adni")
    assert labels(labelled) == {"sub-1": "CN", "sub-2": "AD", "sub-9": "CN"}
    assert set(labelled["session_id"]) == {"ses-M000"}
    assert rules(exclusions[exclusions["participant_id"] != "sub-9"]) == {
        "sub-3": ("ses-M006", "diagnosis changes to MCI"),
        "sub-4": ("ses-M000", "MCI at baseline"),
        "sub-5": ("ses-M006", "diagnosis changes to MCI"),
        "sub-6": ("ses-M000", "baseline without diagnosis"),
        "sub-7": ("ses-M000", "SMC at screening"),
        "sub-8": ("ses-M006", "no baseline session"),
        "sub-10": ("ses-M012", "diagnosis changes to MCI"),
    }
    # sub-9 stays, but the visits that say nothing are dropped, and that is written.
    dropped = exclusions[exclusions["participant_id"] == "sub-9"]
    assert list(dropped["session_id"]) == ["ses-M006", "ses-M012"]
    assert set(dropped["rule"]) == {"visit without diagnosis dropped"}


def test_everybody_in_the_tables_is_labelled_or_excluded():
    table = visits(
        history("sub-1", "CN"),
        history("sub-2", "MCI"),
        history("sub-3", "AD"),
        history("sub-4", "-"),
    )
    labelled, exclusions = assign_labels(table, "aibl", caps_visits=[("sub-1", "ses-M000")])
    assert {*labelled["participant_id"], *exclusions["participant_id"]} == set(
        table["participant_id"]
    )


def test_a_conversion_at_month_100_comes_last_whatever_the_order_of_rows():
    table = visits(history("sub-1", "CN CN"), [history("sub-1", "AD", first=100)[0]])
    labelled, exclusions = assign_labels(table.iloc[::-1].reset_index(drop=True), "adni")
    assert labelled.empty
    assert rules(exclusions) == {"sub-1": ("ses-M100", "diagnosis changes to AD")}


def test_a_missing_diagnosis_is_filled_between_equal_ones_only():
    assert fill_diagnoses(["CN", None, None, "CN", None]) == ["CN", "CN", "CN", "CN", None]
    assert fill_diagnoses(["CN", None, "MCI"]) == ["CN", None, "MCI"]
    assert fill_diagnoses([None, "AD"]) == [None, "AD"]
    assert fill_diagnoses([]) == []


def test_images_must_be_there_and_good():
    table = visits(*(history(f"sub-{i}", "CN") for i in (1, 2, 3)))
    labelled, exclusions = assign_labels(
        table,
        "adni",
        caps_visits=[("sub-1", "ses-M000"), ("sub-2", "ses-M000"), ("sub-3", "ses-M006")],
        passed=[("sub-1", "ses-M000")],
    )
    assert list(labelled["participant_id"]) == ["sub-1"]
    assert rules(exclusions) == {
        "sub-2": ("ses-M000", "quality check failed"),
        "sub-3": ("ses-M000", "no preprocessed T1w image"),
    }


def test_sessions_of_older_tables_find_their_images():
    table = visits([{**history("sub-1", "CN")[0], "session_id": "ses-M00"}])
    labelled, _ = assign_labels(table, "adni", caps_visits=[("sub-1", "ses-M000")])
    assert list(labelled["session_id"]) == ["ses-M000"]  # as the CAPS spells it


def test_oasis_young_controls_count_as_cn_and_the_default_age_leaves_them_out():
    table = visits(
        history("sub-OASIS10001", "CN", age=74.0, cdr=0.0),
        history("sub-OASIS10003", "AD", age=73.0, cdr=0.5),
        history("sub-OASIS10004", "-", age=28.0),
        history("sub-OASIS10005", "-", age=62.0),
        history("sub-OASIS10006", "CN", age=None),
    )
    everyone, none_out = assign_labels(table, "oasis1", min_age=0)
    assert list(everyone["diagnosis"]) == ["CN", "AD", "CN", "CN", "CN"]
    assert none_out.empty
    old, exclusions = assign_labels(table, "oasis1")
    assert list(old["participant_id"]) == ["sub-OASIS10001", "sub-OASIS10003", "sub-OASIS10005"]
    assert rules(exclusions) == {
        "sub-OASIS10004": ("ses-M000", "younger than 62"),
        "sub-OASIS10006": ("ses-M000", "age unknown"),
    }
    with pytest.raises(InputError, match="min_age -1"):
        assign_labels(table, "oasis1", min_age=-1)


def test_demographics_read_like_table_5():
    table = visits(
        history("sub-1", "CN", age=70.0, cdr=0.0),
        history("sub-2", "CN", age=74.0, sex="M", cdr=0.0),
        history("sub-3", "AD", age=80.0, mmse=21.0, cdr=0.5),
        history("sub-4", "AD", age=82.0, mmse=None, sex=None),
    )
    summary = demographics(assign_labels(table, "adni")[0], "ADNI")
    assert list(summary["label"]) == ["CN", "AD"]
    assert list(summary["n"]) == ["2", "2"]
    assert list(summary["age"]) == ["72.0 ± 2.8", "81.0 ± 1.4"]
    assert list(summary["sex_m_f"]) == ["1/1", "0/1 (1 unknown)"]
    assert list(summary["mmse"]) == ["28.0 ± 0.0", "21.0 (1 unknown)"]
    assert list(summary["cdr"]) == ["0: 2", "0.5: 1, n/a: 1"]
