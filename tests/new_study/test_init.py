"""``neuroaug init``: what a newcomer's folder of scans becomes."""

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from neuroaug.cli import app
from neuroaug.cohort.account import label_cohort
from neuroaug.config import read_config
from neuroaug.imaging import caps as caps_names
from neuroaug.new_study.label_candidates import candidates, label_names
from neuroaug.system.files import write_tsv


def scans(root, n, sessions=("",)):
    """Raw scans (empty files: their content is not read), with or without a session level."""
    for i in range(1, n + 1):
        for session in sessions:
            person = f"sub-{i:02d}"
            folder = root / person / session / "anat"
            folder.mkdir(parents=True)
            stem = f"{person}_{session}" if session else person
            (folder / f"{stem}_T1w.nii.gz").write_bytes(b"")
    return [f"sub-{i:02d}" for i in range(1, n + 1)]


def preprocessed(root, n):
    caps_names.write_dataset_description(root, name="tiny")
    for i in range(1, n + 1):
        path = caps_names.t1_linear_image(root, caps_names.Visit(f"sub-{i:02d}", "ses-M000"), "4mm")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    return [f"sub-{i:02d}" for i in range(1, n + 1)]


def table(people, **columns):
    return pd.DataFrame({"participant_id": people, **columns})


@pytest.fixture
def init(tmp_path, monkeypatch):
    """Run the command in an empty folder; returns (exit code, output, the study's folder)."""
    monkeypatch.chdir(tmp_path)

    def run(data, *arguments, out="study"):
        result = CliRunner().invoke(app, ["init", str(data), "--out", out, *arguments])
        return result.exit_code, result.output, tmp_path / out

    return run


@pytest.mark.parametrize("sessions", [("",), ("ses-M000",), ("ses-pre", "ses-post")])
def test_a_bids_folder_becomes_a_study_with_its_own_labels(tmp_path, init, sessions):
    data = tmp_path / "bids"
    people = scans(data, 70, sessions)
    groups = ["patient", "control"] * 35
    write_tsv(
        data / "participants.tsv", table(people, group=groups, age=range(20, 90), sex=["F"] * 70)
    )
    code, said, study = init(data)
    assert code == 0
    config = read_config(study / "neuroaug.yaml")
    assert config.label_names == ("control", "patient")
    assert config.classes == ("control", "patient")
    assert config.split.subsets == (20,)
    assert "group (participants.tsv): control 35, patient 35" in said
    assert f"70 people, {70 * len(sessions)} visits" in said
    assert "next: cd study && neuroaug preprocess" in said
    found = label_cohort(config.tables, cohort=config.cohort, rules=config.label_rules)
    assert found.account.labelled == {"control": 35, "patient": 35}
    # Comments say what a newcomer may change.
    assert "a guess" in (study / "neuroaug.yaml").read_text()


def test_few_people_are_an_honest_warning(tmp_path, init):
    people = scans(tmp_path / "bids", 16)
    write_tsv(tmp_path / "bids" / "participants.tsv", table(people, dx=["MDD", "HC"] * 8))
    code, said, study = init(tmp_path / "bids")
    assert code == 0
    assert "fewer than 20 people of HC, MDD" in said
    assert "Fewer than 20" in (study / "neuroaug.yaml").read_text()


def test_people_who_are_listed_and_have_no_scan_are_counted(tmp_path, init):
    people = scans(tmp_path / "bids", 30)
    everybody = [*people, "sub-91", "sub-92"]
    write_tsv(tmp_path / "bids" / "participants.tsv", table(everybody, dx=["MDD", "HC"] * 16))
    _, said, _ = init(tmp_path / "bids")
    assert "2 people of the tables have no scan here" in said
    assert "with an image: 15 HC, 15 MDD" in said


def test_a_caps_goes_on_with_the_split(tmp_path, init):
    people = preprocessed(tmp_path / "caps", 40)
    write_tsv(tmp_path / "tables" / "participants.tsv", table(people, group=["a", "b"] * 20))
    code, said, study = init(tmp_path / "caps", "--tables", str(tmp_path / "tables"))
    assert code == 0
    assert "next: cd study && neuroaug split" in said
    config = read_config(study / "neuroaug.yaml")
    assert config.bids is None
    assert config.caps == str(tmp_path / "caps")


def test_the_published_cohorts_are_recognised(tmp_path, init):
    data = tmp_path / "bids"
    data.mkdir()
    people = [f"sub-ADNI002S{i:04d}" for i in range(4)]
    for person in people:
        folder = data / person / "ses-M000" / "anat"
        folder.mkdir(parents=True)
        (folder / f"{person}_ses-M000_T1w.nii.gz").write_bytes(b"")
        sessions = {"session_id": ["ses-M000"], "diagnosis": ["AD"], "age": ["70"]}
        write_tsv(data / person / f"{person}_sessions.tsv", pd.DataFrame(sessions))
    write_tsv(data / "participants.tsv", table(people, sex=["F"] * 4))
    code, said, study = init(data)
    assert code == 0, said
    assert "cohort: adni" in said
    config = read_config(study / "neuroaug.yaml")
    assert config.cohort == "adni"
    assert config.label_rules is None


def test_labels_in_a_phenotype_table_are_found(tmp_path, init):
    people = scans(tmp_path / "bids", 40)
    write_tsv(tmp_path / "bids" / "participants.tsv", table(people, age=range(40)))
    phenotype = table(people, diagnosis=["schizophrenia", "healthy control"] * 20)
    write_tsv(tmp_path / "bids" / "phenotype" / "clinical.tsv", phenotype)
    code, _, study = init(tmp_path / "bids")
    assert code == 0
    config = read_config(study / "neuroaug.yaml")
    assert config.label_rules.file == "phenotype/clinical.tsv"
    assert config.classes == ("healthyControl", "schizophrenia")
    found = label_cohort(config.tables, cohort=config.cohort, rules=config.label_rules)
    assert found.account.labelled == {"healthyControl": 20, "schizophrenia": 20}


def test_without_a_label_the_file_says_what_to_write(tmp_path, init):
    people = scans(tmp_path / "bids", 6)
    write_tsv(tmp_path / "bids" / "participants.tsv", table(people, sex=["F"] * 6, age=range(6)))
    code, said, study = init(tmp_path / "bids")
    assert code == 0
    assert "no column that looks like a label" in said
    assert "next: write labels: into" in said
    assert "#   column: group" in (study / "neuroaug.yaml").read_text()
    assert yaml.safe_load((study / "neuroaug.yaml").read_text())["bids"] == str(tmp_path / "bids")


def test_what_is_there_is_never_overwritten_and_the_data_never_written_to(tmp_path, init):
    people = scans(tmp_path / "bids", 6)
    write_tsv(tmp_path / "bids" / "participants.tsv", table(people, dx=["a", "b"] * 3))
    assert init(tmp_path / "bids")[0] == 0
    before = (tmp_path / "study" / "neuroaug.yaml").read_bytes()
    assert init(tmp_path / "bids")[0] == 2
    assert (tmp_path / "study" / "neuroaug.yaml").read_bytes() == before
    assert init(tmp_path / "bids", out="bids/study")[0] == 2
    assert not (tmp_path / "bids" / "study").exists()


@pytest.mark.parametrize("what", ["absent", "empty", "file"])
def test_what_is_no_data_set_is_one_line(tmp_path, init, what):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    code, _, study = init(tmp_path / what)
    assert code == 2
    assert not study.exists()


def test_sex_age_sites_and_scores_are_no_labels():
    people = [f"sub-{i}" for i in range(40)]
    columns = {
        "sex": ["F", "M"] * 20,
        "age": [str(20 + i % 5) for i in range(40)],
        "site": ["a", "b"] * 20,
        "bdi": [str(i % 9) for i in range(40)],
        "name": [f"n{i}" for i in range(40)],
        "same": ["x"] * 40,
        "group": ["1", "2"] * 20,
    }
    assert [c.column for c in candidates("participants.tsv", columns, people)] == ["group"]


@pytest.mark.parametrize(
    "values", [["1", "0"], ["a b", "a-b", "A B"], ["é", "è"], ["no", "yes"], ["HC", "hc "]]
)
def test_names_of_labels_are_letters_and_digits_and_distinct(values):
    names = label_names(values, "group")
    assert list(names.values()) == values
    assert all(name.isalnum() and name.isascii() for name in names)
    assert len({name.casefold() for name in names}) == len(values)
