"""`check` counts whom `split` would label and leave out, by the same rules."""

import pandas as pd
import pytest
import yaml

from neuroaug.cohort.account import label_cohort
from neuroaug.config import parse_config
from neuroaug.dataset_check.check_cohort import check_cohort
from neuroaug.imaging import caps as caps_names
from neuroaug.system.files import write_tsv

LABELS = {"column": "group", "values": {"HC": "control", "MDD": "depr"}, "positive": "MDD"}


@pytest.fixture
def study(tmp_path):
    """Four people in the tables, of whom one has no image and one no label; a stranger's image."""
    caps_names.write_dataset_description(tmp_path / "caps", name="x")
    for person in ("sub-1", "sub-2", "sub-3", "sub-9"):
        visit = caps_names.Visit(person, "ses-M000")
        path = caps_names.t1_linear_image(tmp_path / "caps", visit, "4mm")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    people = [f"sub-{i}" for i in range(1, 5)]
    groups = ["control", "depr", "other", "depr"]
    write_tsv(
        tmp_path / "tables" / "participants.tsv",
        pd.DataFrame({"participant_id": people, "group": groups, "age": [40, 41, 42, 43]}),
    )
    config = {"tables": "tables", "cohort": "custom", "labels": LABELS, "resolution": "4mm"}
    (tmp_path / "neuroaug.yaml").write_text(yaml.safe_dump(config))
    return tmp_path, parse_config(config)


def test_a_studys_counts_are_those_of_the_split(study):
    root, config = study
    found = check_cohort(root)
    assert {finding.severity for finding in found} == {"note"}
    said = [finding.message for finding in found]
    people = label_cohort(
        root / "tables", root / "caps", rules=config.label_rules, resolution="4mm"
    )
    assert said == [*people.account.lines(), *people.notes]
    assert said[0] == "5 people: 1 HC, 1 MDD; 3 left out"
    for name in ("sub-3", "sub-4", "sub-9"):
        assert any(name in line for line in said)


def test_what_the_split_would_refuse_is_an_error(study):
    root, _ = study
    table = root / "tables" / "participants.tsv"
    table.write_text(table.read_text() + "sub-1\tdepr\t40\n")
    (found,) = check_cohort(root)
    assert found.severity == "error"
    assert "sub-1" in found.message
    assert str(root) not in found.message


def test_labels_of_an_unknown_cohort_are_not_guessed(tmp_path):
    write_tsv(tmp_path / "participants.tsv", pd.DataFrame({"participant_id": ["sub-1"]}))
    (found,) = check_cohort(tmp_path)
    assert found.severity == "note"
    assert "neuroaug init" in found.fix
