"""Tables of ADNI, AIBL and OASIS-1 as Clinica's converters write them, old releases and new."""

from pathlib import Path

import pytest

from neuroaug.cohort.tables import VISIT_COLUMNS, read_visits, session_months
from neuroaug.errors import InputError


def write(path: Path, text: str) -> None:
    """Write a table whose columns are separated by blanks here and by tabs in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(line.split()) for line in text.strip().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def sessions(folder: Path, participant: str, text: str) -> None:
    write(folder / participant / f"{participant}_sessions.tsv", text)


@pytest.fixture
def adni(tmp_path):
    write(
        tmp_path / "participants.tsv",
        """
        participant_id alternative_id_1 sex age_bl diagnosis_sc site original_study mmse_bl apoe4
        sub-ADNI002S0295 002_S_0295 M 84.8 CN 2 ADNI1 28 1
        sub-ADNI003S0100 003_S_0100 F 70.0 AD n/a ADNI2 21 n/a
        """,
    )
    sessions(
        tmp_path,
        "sub-ADNI002S0295",
        """
        session_id age diagnosis MMSE cdr_global cdr_sb
        ses-M100 93.1 CN 28 0 0
        ses-M006 85.3 CN n/a 0 0
        ses-M000 84.8 CN 28.0 0 0
        ses-M012 85.8 n/a 28 n/a 0
        """,
    )
    sessions(
        tmp_path,
        "sub-ADNI003S0100",
        """
        session_id diagnosis MMS
        ses-M00 Dementia n/a
        ses-M24 n/a 18
        """,
    )
    return tmp_path


def test_adni_visits_are_read_and_ordered_by_number(adni):
    visits, cohort = read_visits(adni)
    assert cohort == "adni"
    assert tuple(visits.columns) == VISIT_COLUMNS
    first = visits[visits["participant_id"] == "sub-ADNI002S0295"]
    assert list(first["session_id"]) == ["ses-M000", "ses-M006", "ses-M012", "ses-M100"]
    assert list(first["months"]) == [0, 6, 12, 100]
    assert list(first["diagnosis"]) == ["CN", "CN", None, "CN"]
    baseline = first.iloc[0]
    assert (baseline["sex"], baseline["age"], baseline["site"]) == ("M", 84.8, "2")
    assert (baseline["mmse"], baseline["cdr"], baseline["screening"]) == (28.0, 0.0, "CN")


def test_old_names_and_missing_values_are_understood(adni):
    visits, _ = read_visits(adni)
    old = visits[visits["participant_id"] == "sub-ADNI003S0100"]
    assert list(old["diagnosis"]) == ["AD", None]  # Dementia
    assert list(old["age"]) == [70.0, 72.0]  # from age_bl, and the months since
    assert list(old["mmse"]) == [21.0, 18.0]  # baseline from mmse_bl
    assert old.iloc[0]["site"] is None
    assert old.iloc[0]["cdr"] is None


def test_a_merged_table_reads_as_the_separate_ones_do(adni, tmp_path_factory):
    separate, _ = read_visits(adni)
    folder = tmp_path_factory.mktemp("merged")
    write(
        folder / "merged.tsv",
        """
        participant_id session_id sex age_bl diagnosis_sc site mmse_bl age diagnosis MMSE cdr_global
        sub-ADNI003S0100 ses-M24 F 70.0 AD n/a 21 n/a n/a 18 n/a
        sub-ADNI003S0100 ses-M00 F 70.0 AD n/a 21 n/a Dementia n/a n/a
        sub-ADNI002S0295 ses-M000 M 84.8 CN 2 28 84.8 CN 28 0
        sub-ADNI002S0295 ses-M006 M 84.8 CN 2 28 85.3 CN n/a 0
        sub-ADNI002S0295 ses-M012 M 84.8 CN 2 28 85.8 n/a 28 n/a
        sub-ADNI002S0295 ses-M100 M 84.8 CN 2 28 93.1 CN 28 0
        """,
    )
    for given in (folder, folder / "merged.tsv"):
        merged, cohort = read_visits(given)
        assert cohort == "adni"
        assert merged.equals(separate)


def test_aibl_age_comes_from_the_year_of_birth_where_it_is_absent(tmp_path):
    write(
        tmp_path / "participants.tsv",
        """
        participant_id sex date_of_birth site apoe_gen1 apoe_gen2
        sub-AIBL10 F 1935 1 3 4
        sub-AIBL11 M /1930 2 3 3
        sub-AIBL12 M /1940 2 3 3
        """,
    )
    sessions(
        tmp_path,
        "sub-AIBL10",
        """
        session_id months age MMS cdr_global diagnosis examination_date
        ses-M000 000 n/a 30 0 CN 05/20/2008
        ses-M018 018 74.9 29 0 CN 11/20/2009
        """,
    )
    sessions(
        tmp_path,
        "sub-AIBL11",
        "session_id MMS diagnosis examination_date\nses-M00 -4 AD 2008-01-02",
    )
    visits, cohort = read_visits(tmp_path)
    assert cohort == "aibl"
    by_visit = visits.set_index(["participant_id", "session_id"])
    assert by_visit.loc[("sub-AIBL10", "ses-M000"), "age"] == 73.0
    assert by_visit.loc[("sub-AIBL10", "ses-M018"), "age"] == 74.9
    assert by_visit.loc[("sub-AIBL11", "ses-M00"), "age"] == 78.0
    assert by_visit.loc[("sub-AIBL11", "ses-M00"), "mmse"] is None  # AIBL's own missing value
    # Clinica lists people without images: no sessions file, one row without session.
    assert list(visits.loc[visits["participant_id"] == "sub-AIBL12", "session_id"]) == [None]


def oasis(folder: Path) -> None:
    write(
        folder / "participants.tsv",
        """
        participant_id alternative_id_1 sex education_level age_bl diagnosis_bl laterality
        sub-OASIS10001 OAS1_0001_MR1 F 2 74 CN R
        sub-OASIS10003 OAS1_0003_MR1 F 4 73 AD R
        sub-OASIS10004 OAS1_0004_MR1 M n/a 28 n/a R
        sub-OASIS10022 OAS1_0022_MR1 M 1 80 AD R
        sub-OASIS10030 OAS1_0030_MR1 F 2 78 n/a R
        """,
    )
    visits = (
        (1, "0.0", "CN"),
        (3, "0.5", "n/a"),
        (4, "n/a", "n/a"),
        (22, "n/a", "n/a"),
        (30, "n/a", "AD"),
    )
    for number, cdr, diagnosis in visits:
        participant = f"sub-OASIS1{number:04d}"
        sessions(
            folder,
            participant,
            f"session_id cdr_global MMS diagnosis\nses-M000 {cdr} 29 {diagnosis}",
        )


def test_oasis_cdr_of_a_half_is_ad_though_its_diagnosis_is_missing(tmp_path):
    oasis(tmp_path)
    visits, cohort = read_visits(tmp_path)
    assert cohort == "oasis1"
    # CDR 0, CDR 0.5, never given a CDR; without a CDR, what diagnosis_bl or the visit's own
    # diagnosis says.
    assert list(visits["diagnosis"]) == ["CN", "AD", None, "AD", "AD"]
    assert list(visits["cdr"]) == [0.0, 0.5, None, None, None]


def test_oasis_with_clinicas_diagnosis_alone_is_refused(tmp_path):
    write(
        tmp_path / "merged.tsv",
        "participant_id session_id sex age_bl diagnosis\nsub-OASIS10001 ses-M000 F 74 CN",
    )
    with pytest.raises(
        InputError, match=r"no column for diagnosis \(one of cdr_global, cdr, diagnosis_bl"
    ):
        read_visits(tmp_path)


def test_cohort_is_recognised_by_columns_where_ids_say_nothing(tmp_path):
    write(
        tmp_path / "a" / "m.tsv",
        "participant_id session_id sex age diagnosis diagnosis_sc\nsub-1 ses-M0 F 74 CN CN",
    )
    write(
        tmp_path / "b" / "m.tsv",
        "participant_id session_id sex age diagnosis apoe_gen1\nsub-1 ses-M0 F 74 CN 3",
    )
    write(
        tmp_path / "c" / "m.tsv",
        "participant_id session_id sex age cdr_global laterality\nsub-1 ses-M0 F 74 0 R",
    )
    write(
        tmp_path / "d" / "m.tsv",
        "participant_id session_id sex age diagnosis\nsub-1 ses-M0 F 74 CN",
    )
    assert [read_visits(tmp_path / name)[1] for name in "abc"] == ["adni", "aibl", "oasis1"]
    with pytest.raises(InputError, match="give --cohort adni or aibl or oasis1"):
        read_visits(tmp_path / "d")
    assert read_visits(tmp_path / "d", "aibl")[1] == "aibl"


MERGED = "participant_id session_id sex age diagnosis diagnosis_sc\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "sub-ADNI1 ses-M000 F 70 Demented CN",
            r"sub-ADNI1 ses-M000: unknown diagnosis 'Demented'",
        ),
        ("sub-ADNI1 ses-M000 X 70 CN CN", r"sub-ADNI1 ses-M000: unknown sex 'X'"),
        ("sub-ADNI1 ses-M000 F old CN CN", r"unknown age 'old'; expected a number"),
        ("sub-ADNI1 ses-M000 F 700 CN CN", r"unknown age '700'; expected years"),
        ("sub-ADNI1 ses-baseline F 70 CN CN", r"unknown session_id 'ses-baseline'"),
        (
            "sub-ADNI1 ses-M000 F 70 CN CN\nsub-ADNI1 ses-M00 F 70 CN CN",
            r"sub-ADNI1 ses-M00 stands twice",
        ),
        (
            "../../etc ses-M000 F 70 CN CN",
            r"'../../etc' is not sub- followed by letters and digits",
        ),
        (
            "sub-ADNI1 ses-M000 F 70 CN CN\nsub-AIBL1 ses-M000 F 70 CN CN",
            r"several cohorts \(adni, aibl\)",
        ),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path, rows, message):
    write(tmp_path / "merged.tsv", MERGED + rows)
    with pytest.raises(InputError, match=message) as error:
        read_visits(tmp_path / "merged.tsv")
    assert "merged.tsv" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "quantity"), [("sex", "sex"), ("age", "age"), ("diagnosis", "diagnosis")]
)
def test_a_missing_column_is_named_with_those_expected_and_found(tmp_path, column, quantity):
    header = MERGED.split()
    row = ["sub-ADNI1", "ses-M000", "F", "70", "CN", "CN"]
    kept = [i for i, name in enumerate(header) if name != column]
    lines = [" ".join(values[i] for i in kept) for values in (header, row)]
    write(tmp_path / "merged.tsv", "\n".join(lines))
    with pytest.raises(
        InputError,
        match=rf"no column for {quantity} \(one of .*merged.tsv has participant_id, session_id",
    ):
        read_visits(tmp_path)


def test_participants_and_sessions_must_agree(adni):
    sessions(adni, "sub-ADNI009S0001", "session_id diagnosis\nses-M000 CN")
    with pytest.raises(InputError, match="no row for sub-ADNI009S0001"):
        read_visits(adni)


def test_a_participant_twice_is_refused(adni):
    path = adni / "participants.tsv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(InputError, match="sub-ADNI003S0100 stands twice"):
        read_visits(adni)


def test_one_person_under_two_spellings_is_refused(tmp_path):
    write(
        tmp_path / "merged.tsv",
        """
        participant_id session_id sex age diagnosis
        sub-ADNI002S0295 ses-M000 F 70 CN
        sub-adni002s0295 ses-M000 F 70 CN
        """,
    )
    with pytest.raises(
        InputError,
        match="sub-ADNI002S0295 and sub-adni002s0295 differ by upper and lower case only",
    ):
        read_visits(tmp_path / "merged.tsv", "adni")


def test_empty_or_absent_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither participants\.tsv nor a table"):
        read_visits(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read_visits(tmp_path / "absent")
    write(
        tmp_path / "participants.tsv", "participant_id sex age_bl diagnosis_sc\nsub-ADNI1 F 70 CN"
    )
    with pytest.raises(InputError, match="no participant has a sub"):
        read_visits(tmp_path)


def test_session_months():
    assert [
        session_months(name) for name in ("ses-M00", "ses-M000", "ses-M006", "ses-M100", "ses-1")
    ] == [
        0,
        0,
        6,
        100,
        None,
    ]
