"""``train --split FILE``: labels are read as `split` gives them, and none is dropped."""

import re

import pytest
from custom_cohort import make_caps, write

from neuroaug.cli.split import split_cohort
from neuroaug.cohort.split_folder import read_set
from neuroaug.cohort.split_table import read_split
from neuroaug.config import StudyConfig
from neuroaug.errors import InputError
from neuroaug.study import Study

CUSTOM = {
    "cohort": "custom",
    "labels": {
        "column": "group",
        "values": {"HC": "control", "MDD": ["depr", "dysthymia"]},
        "positive": "MDD",
    },
    "split": {"n_test": 2, "subsets": [2]},
}


def table(folder, *labels):
    rows = [f"sub-{i}\tses-M000\t{label}" for i, label in enumerate(labels)]
    path = folder / "mine.tsv"
    path.write_text("\n".join(["Participant_ID\tsession_id\tDiagnosis", *rows]) + "\n")
    return path


def study(folder, content):
    config = StudyConfig.model_validate(content)
    return Study(folder, config)


@pytest.mark.parametrize(
    ("content", "written", "meant"),
    [
        ({}, ["AD", " ad ", "Dementia", "CN", "cn"], ["AD", "AD", "AD", "CN", "CN"]),
        (CUSTOM, ["MDD", "Depr", " dysthymia", "hc", "Control"], ["MDD", "MDD", "MDD", "HC", "HC"]),
    ],
)
def test_labels_are_normalised_as_split_does(tmp_path, content, written, meant):
    found = read_split(study(tmp_path, content), str(table(tmp_path, *written)))
    assert list(found.table["diagnosis"]) == meant


@pytest.mark.parametrize(
    ("content", "written", "message"),
    [
        ({}, ["AD", "MCI", "CN", "Alzheimer"], r"\(CN, AD\): line 3 'MCI', line 5 'Alzheimer'"),
        (CUSTOM, ["MDD", "other"], r"\(HC, MDD\): line 3 'other'"),
    ],
)
def test_labels_that_are_none_of_the_studys_are_refused_by_row(tmp_path, content, written, message):
    with pytest.raises(InputError, match=message):
        read_split(study(tmp_path, content), str(table(tmp_path, *written)))


@pytest.mark.parametrize("written", [["AD", "ad"], ["Major  D", "Major D"], ["AD", "Dementia"]])
def test_outside_a_study_one_label_has_one_spelling(tmp_path, written):
    with pytest.raises(InputError, match=r"\(line 2\) and .* \(line 3\) are one label"):
        read_set(table(tmp_path, *written))


def test_outside_a_study_labels_are_as_written_without_blanks_round_them(tmp_path):
    assert list(read_set(table(tmp_path, "patient ", "patient"))["diagnosis"]) == ["patient"] * 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("sub-1 ses-M000 AD 70\nsub-1 ses-M006 AD 71", "sub-1 stands twice, again in line 3"),
        ("sub-a ses-M000 AD 70\nsub-A ses-M006 AD 71", r"sub-A stands twice \(as sub-a too\)"),
        ("sub-1 ses-M000 AD old", "line 2: age 'old' is not a number"),
        ("sub-1 ses-M000 n/a 70", "line 2 lacks a participant_id, session_id or diagnosis"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(tmp_path, rows, message):
    path = tmp_path / "mine.tsv"
    write(path, f"participant_id session_id diagnosis age\n{rows}")
    with pytest.raises(InputError, match=message):
        read_set(path)


def test_a_custom_cohort_is_split_without_what_its_tables_lack_and_says_so(tmp_path, caplog):
    groups = ["control", "depr"] * 10 + ["other", "n/a"]
    rows = [f"sub-{i:02d} {group}" for i, group in enumerate(groups)]
    write(tmp_path / "bids" / "participants.tsv", "\n".join(["participant_id group", *rows]))
    caps = make_caps(tmp_path / "caps", *(f"sub-{i:02d}_ses-M000" for i in range(30)))
    config = StudyConfig.model_validate(CUSTOM)
    with caplog.at_level("INFO"):
        made = split_cohort(
            None, config, caps=caps, tables=tmp_path / "bids", out=tmp_path / "splits"
        )
    assert set(made.table("train")["diagnosis"]) == {"HC", "MDD"}
    assert set(made.balance()["note"]) == {
        f"{v}: not in the tables" for v in ("age", "sex", "site")
    }
    assert "age: not in the tables" in made.notes
    exclusions = made.exclusions()
    assert dict(exclusions["rule"].value_counts()) == {
        "image without a row in the tables": 8,
        "group 'other' is no label of the study": 1,
        "group missing": 1,
    }
    assert "30 people: 10 HC, 10 MDD; 10 left out" in caplog.text
    for path in made.folder.iterdir():
        assert not re.search(rb"\b(AD|CN)\b", path.read_bytes())
