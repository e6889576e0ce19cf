"""Cells of ADNI-, AIBL- and OASIS-shaped tables that mean something else than they say."""

import pytest
from custom_cohort import make_caps, write, write_qc

from neuroaug.cohort.account import label_cohort
from neuroaug.cohort.reading.numbers import Number, read_number
from neuroaug.errors import InputError

HEADER = "participant_id session_id sex age diagnosis mmse cdr_global"


def merged(folder, *rows):
    write(folder / "merged.tsv", "\n".join([HEADER, *rows]))
    return folder / "merged.tsv"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("89+", Number(89, is_bound=True)),
        ("90 +", Number(90, is_bound=True)),
        (">89", Number(89, is_bound=True)),
        ("72,4", Number(72.4)),
        ("072Y", Number(72)),
        (" 70 ", Number(70)),
        ("-", None),
        (".", None),
        ("N/A", None),
        ("unknown", None),
    ],
)
def test_numbers_as_people_write_them(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["old", "1,234", "inf", "7_0", "70 80"])
def test_what_is_no_number_is_not_guessed(text):
    with pytest.raises(ValueError, match=r"."):
        read_number(text)


@pytest.mark.parametrize("code", ["-1", "-4", "999", "9999", "-4.0"])
def test_codes_for_missing_scores_are_no_scores_and_said(tmp_path, code):
    table = merged(
        tmp_path,
        f"sub-ADNI1 ses-M000 F 70 CN {code} {code}",
        "sub-ADNI2 ses-M000 F 71 CN 28 0",
    )
    found = label_cohort(table)
    assert list(found.labelled["mmse"].dropna()) == [28.0]
    assert list(found.labelled["cdr"].dropna()) == [0.0]
    if not code.startswith("-4"):
        assert any("mmse: 1 cells" in note and code in note for note in found.notes)


@pytest.mark.parametrize("code", ["-1", "999"])
def test_codes_stand_for_missing_sexes_and_diagnoses_too(tmp_path, code):
    found = label_cohort(
        merged(
            tmp_path,
            f"sub-ADNI1 ses-M000 {code} 70 CN 28 0",
            f"sub-ADNI2 ses-M000 F {code} {code} 28 0",
        )
    )
    assert list(found.labelled["sex"]) == [None]
    assert found.account.left_out == {"baseline without diagnosis": ["sub-ADNI2"]}
    assert {note.split(":")[0] for note in found.notes} == {"age", "sex", "diagnosis"}


def test_censored_ages_count_as_their_bound_and_are_counted(tmp_path):
    found = label_cohort(
        merged(tmp_path, "sub-ADNI1 ses-M000 F 89+ CN 28 0", "sub-ADNI2 ses-M000 F 72,4 AD 20 1")
    )
    assert list(found.labelled["age"]) == [89.0, 72.4]
    assert any("age: 1 cells, '89+' (1)" in note for note in found.notes)


def test_a_participants_diagnosis_does_not_stand_in_for_a_visits(tmp_path):
    write(tmp_path / "participants.tsv", "participant_id sex age_bl diagnosis\nsub-ADNI1 F 70 AD")
    sessions = tmp_path / "sub-ADNI1" / "sub-ADNI1_sessions.tsv"
    write(sessions, "session_id diagnosis\nses-M000 n/a\nses-M006 AD")
    found = label_cohort(tmp_path)
    assert found.account.left_out == {"baseline without diagnosis": ["sub-ADNI1"]}
    assert any("does not stand in for that of 1 visits" in note for note in found.notes)
    write(sessions, "session_id age\nses-M000 70\nses-M006 70.5")
    found = label_cohort(tmp_path)
    assert list(found.labelled["diagnosis"]) == ["AD"]
    assert any("counts for all 2 visits" in note for note in found.notes)


def test_two_columns_of_one_quantity_must_agree(tmp_path):
    write(
        tmp_path / "m.tsv",
        "participant_id session_id sex gender age diagnosis dx\nsub-ADNI1 ses-M000 F F 70 AD CN",
    )
    with pytest.raises(InputError, match=r"two columns for diagnosis .*diagnosis AD and dx CN"):
        label_cohort(tmp_path)


@pytest.mark.parametrize("spelling", ["ses-M00", "M000", "ses-M0", "ses-m000"])
def test_sessions_are_one_however_they_are_spelled(tmp_path, spelling):
    caps = make_caps(tmp_path / "caps", "sub-ADNI1_ses-M000")
    table = merged(tmp_path, f"sub-ADNI1 {spelling} F 70 CN 28 0")
    found = label_cohort(table, caps)
    assert list(found.labelled["session_id"]) == ["ses-M000"]
    assert not found.account.images_without_row
    assert not found.account.rows_without_image


def test_one_visit_twice_in_a_caps_is_refused_naming_both(tmp_path):
    caps = make_caps(tmp_path / "caps", "sub-ADNI1_ses-M00", "sub-ADNI1_ses-M000")
    table = merged(tmp_path, "sub-ADNI1 ses-M000 F 70 CN 28 0")
    with pytest.raises(InputError, match="ses-M00 and ses-M000, two spellings of one session"):
        label_cohort(table, caps)


def test_images_without_rows_and_visits_not_checked_have_their_own_rules(tmp_path):
    caps = make_caps(tmp_path / "caps", *(f"sub-ADNI{i}_ses-M000" for i in (1, 2, 3, 4)))
    write_qc(caps, sub_ADNI1_ses_M000=True, sub_ADNI2_ses_M000=False)
    rows = [f"sub-ADNI{i} ses-M000 F 70 CN 28 0" for i in (1, 2, 3)]
    found = label_cohort(merged(tmp_path, *rows), caps)
    assert found.account.left_out == {
        "quality check failed": ["sub-ADNI2"],
        "not in qc.tsv": ["sub-ADNI3"],
        "image without a row in the tables": ["sub-ADNI4"],
    }
