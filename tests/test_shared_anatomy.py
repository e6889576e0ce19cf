"""One anatomy for two labels, with a law: from a split to soft-labelled images, and its leaks."""

import numpy as np
import pandas as pd
import pytest
import yaml
from test_own_labels import CONFIG, people, write_study
from typer.testing import CliRunner

from neuroaug.cli import app
from neuroaug.models import load_model
from neuroaug.system.files import read_tsv, sha256_file, write_tsv

pytestmark = pytest.mark.timeout(900)
LAW = {"covariates": ["age"], "prior": "age", "years": {"MDD": 4}}


def config(**changes):
    generator = {"model": "linear", "latent_dim": 4, "shared": True}
    return {**CONFIG, "generator": generator, "law": LAW, **changes}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("shared")
    write_study(root, people("control", "depr", n=12), config())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert CliRunner().invoke(app, ["split"]).exit_code == 0
        for label in ("HC", "MDD"):
            result = CliRunner().invoke(app, ["augment", "--label", label, "--n", "12"])
            assert result.exit_code == 0, result.output
    return root


def test_labels_share_their_weights_and_name_everyone_who_shaped_them(study):
    folders = [study / "models" / "train" / name for name in ("shared-anatomy", "HC", "MDD")]
    weights = {sha256_file(folder / "weights.safetensors") for folder in folders}
    assert len(weights) == 1
    train = read_tsv(study / "splits" / "train.tsv", ("participant_id",))
    for folder in (*folders, study / "synthetic" / "train" / "HC"):
        lineage = read_tsv(folder / "lineage.tsv", ("participant_id",))
        assert set(lineage["participant_id"]) == set(train["participant_id"])
    assert len(load_model(folders[1]).codes.means) == len(train)  # everyone's rests


def test_an_image_carries_the_laws_probability_and_covariates_that_do_not_tell_its_label(study):
    tables = {
        label: read_tsv(study / "synthetic" / "train" / label / "participants.tsv", ())
        for label in ("HC", "MDD")
    }
    ages = set(read_tsv(study / "splits" / "train.tsv", ())["age"].astype(float))
    for label, table in tables.items():
        assert list(table["participant_id"]) == [f"sub-syn{label}{i:05d}" for i in range(1, 13)]
        assert set(table["age"].astype(float)) <= ages
        assert table["probability"].astype(float).between(0, 1).all()


def test_ages_may_be_asked_for(study, neuroaug, tmp_path):
    out = tmp_path / "old"
    arguments = ("augment", "--label", "MDD", "--n", 3, "--out", out)
    neuroaug(study, *arguments, "--age", "70-80")
    table = read_tsv(out / "participants.tsv", ())
    assert table["age"].astype(float).between(70, 80).all()
    said = neuroaug(study, *arguments, "--age", "40-50", code=2)
    assert "drawn with asked" in said
    assert "expected years as 70-80" in neuroaug(study, *arguments, "--age", "old", code=2)


def test_a_tested_person_among_the_unlabelled_is_refused_by_name(study, neuroaug, tmp_path):
    tested = read_tsv(study / "splits" / "test.tsv", ("participant_id",))["participant_id"][0]
    table = pd.DataFrame({"participant_id": [tested], "session_id": ["ses-M012"]})
    write_tsv(study / "others.tsv", table)
    text = yaml.safe_dump(
        config(generator={"model": "linear", "shared": True, "unlabelled": "others.tsv"})
    )
    before = (study / "neuroaug.yaml").read_text()
    try:
        (study / "neuroaug.yaml").write_text(text)
        said = neuroaug(study, "train", "--label", "HC", "--out", tmp_path / "m", code=2)
    finally:
        (study / "neuroaug.yaml").write_text(before)
    assert f"{tested}: in the test set" in said
    assert not (tmp_path / "m").exists()


def test_another_label_does_not_train_the_anatomy_again(study):
    anatomy = study / "models" / "train" / "shared-anatomy" / "config.json"
    assert anatomy.stat().st_mtime_ns < (study / "models/train/HC/config.json").stat().st_mtime_ns


def test_every_arm_of_the_law_is_evaluated(study, neuroaug):
    cells = ["synthetic-12"]
    controls = [f"train_{name}_4mm_real" for name in ("linear", "brain-age", "bayes-rule")]
    neuroaug(study, "evaluate", "--cell", *cells, *controls)
    summary = read_tsv(study / "results.tsv", ())
    assert set(summary["cell"]) == {"train_baseline_4mm_synthetic-12", *controls}
    for network in ("linear", "brain-age", "bayes-rule"):
        folder = study / "evaluation" / f"train_{network}_4mm_real"
        assert (folder / "run-0" / "scores.tsv").is_file()
        proof = read_tsv(folder / "leakage.tsv", ())
        assert set(proof["result"]) == {"passed"}
        assert ("train/MDD" in set(proof["generator"])) == (network == "bayes-rule")


@pytest.mark.parametrize("model", ["rhvae", "vae"])
def test_networks_draw_rests_by_their_own_sampler_and_the_law_places_them(
    tmp_path, neuroaug, model
):
    generator = {**CONFIG["generator"], "model": model, "shared": True}
    write_study(tmp_path, people("control", "depr", n=10), config(generator=generator))
    neuroaug(tmp_path, "split")
    neuroaug(tmp_path, "augment", "--label", "MDD", "--n", 2)
    trained = load_model(tmp_path / "models" / "train" / "MDD")
    rests = trained.codes.means.numpy()
    np.testing.assert_allclose(rests.mean(0), 0, atol=1e-4)
    assert trained.law.label == "MDD"
    assert "prior" not in trained.samplers


def test_a_law_without_one_anatomy_is_refused(tmp_path, neuroaug):
    write_study(tmp_path, people("control", "depr", n=6), {**CONFIG, "law": LAW})
    said = neuroaug(tmp_path, "split", code=2)
    assert "law: needs generator: {shared: true}" in said


def test_what_images_can_teach_is_said_before_one_is_drawn(study, neuroaug, tmp_path):
    from neuroaug.controls.forecast import read_forecast
    from neuroaug.statistics.scores import auc

    told = [read_forecast(study / "models" / "train" / label) for label in ("HC", "MDD")]
    assert told[0] == told[1]
    (rule, low, high), n = told[0].rule, sum(told[0].n)
    assert low <= rule <= high
    said = neuroaug(study, "augment", "--label", "MDD", "--n", 1, "--out", tmp_path / "one")
    assert f"cannot teach more than AUC {rule:.3f}" in " ".join(said.split())
    # Of the rule itself, on validation people: as a cell with that rule scores them.
    neuroaug(study, "evaluate", "--cell", "train_bayes-rule_4mm_real")
    scores = pd.concat(
        read_tsv(study / f"evaluation/train_bayes-rule_4mm_real/run-{k}/validation-scores.tsv", ())
        for k in range(1)
    )
    assert len(scores) == n
    positive = (scores["label"] == "MDD").to_numpy()
    score = scores["score"].astype(float).to_numpy()
    assert auc(score[positive], score[~positive]) == pytest.approx(rule)


def test_a_missing_validation_image_costs_the_probes_not_the_training(tmp_path, neuroaug):
    write_study(tmp_path, people("control", "depr", n=10), {**CONFIG, "law": None})
    neuroaug(tmp_path, "split")
    neuroaug(tmp_path, "train", "--label", "HC")
    assert (tmp_path / "models" / "train" / "HC" / "probes.json").is_file()
    held = read_tsv(tmp_path / "splits" / "validation.tsv", ())
    who = held.loc[held["diagnosis"] == "MDD", "participant_id"].iloc[0]
    next((tmp_path / "caps" / "subjects" / who).rglob("*.nii.gz")).unlink()
    said = neuroaug(tmp_path, "train", "--label", "MDD")
    assert "not looked at on validation people" in " ".join(said.split())
    assert who in said
    assert (tmp_path / "models" / "train" / "MDD" / "config.json").is_file()
    assert not (tmp_path / "models" / "train" / "MDD" / "probes.json").exists()


def test_a_table_of_ones_own_is_learned_from_without_a_split(tmp_path, neuroaug):
    write_study(tmp_path, people("control", "depr", n=10), {**CONFIG, "law": None})
    rows = {"participant_id": [f"sub-{i:02d}" for i in range(0, 20, 2)], "session_id": "ses-M000"}
    write_tsv(tmp_path / "mine.tsv", pd.DataFrame({**rows, "diagnosis": "HC"}))
    neuroaug(tmp_path, "train", "--label", "HC", "--split", "mine.tsv")
    assert (tmp_path / "models" / "mine" / "HC" / "config.json").is_file()
    assert not (tmp_path / "models" / "mine" / "HC" / "probes.json").exists()
