"""Learning curves from a study: points, arms, controls, and what is refused; then a whole curve."""

import numpy as np
import pandas as pd
import pytest
from test_own_labels import CONFIG, people, write_study
from typer.testing import CliRunner

from neuroaug.cli import app
from neuroaug.statistics.scores import auc
from neuroaug.study import Study
from neuroaug.system.files import read_tsv
from neuroaug.workflow.learning_curve.gather import best_controls
from neuroaug.workflow.learning_curve.points import arm_name, arms, curve_points, is_control
from neuroaug.workflow.learning_curve.run_curve import run_curve

pytestmark = pytest.mark.timeout(900)
GENERATOR = {"model": "linear", "latent_dim": 3, "shared": True}
LAW = {"covariates": ["age"], "prior": "age", "years": {"MDD": 4}}
CURVE = {"n": [6], "splits": 2, "runs": 1, "cells": ["train_linear_4mm_synthetic-12"]}


def config(**changes):
    return {**CONFIG, "generator": GENERATOR, "law": LAW, "curve": CURVE, **changes}


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "study", people("control", "depr", n=16), config())
    return Study.open(tmp_path / "study")


def test_every_arm_has_the_controls_beside_it(study):
    names = [arm_name(cell) for cell in arms(study)]
    assert names == [
        "linear_4mm_synthetic-12",
        "baseline_4mm_real",
        "baseline_4mm_real+classical",
        "linear_4mm_real",
    ]
    assert [is_control(cell) for cell in arms(study)] == [False, True, True, True]


def test_a_point_is_a_study_of_n_people_of_another_split(study):
    first, second = curve_points(study)
    assert first.study.root == study.root / "curve" / "n-6_split-0"
    assert second.study.config.split.seed == study.config.split.seed + 1
    assert first.study.caps == study.caps
    assert {cell.split for cell in first.study.config.cells()} == {"train-6"}
    assert first.study.config.generator.unlabelled == "unlabelled.tsv"


def test_the_best_control_is_chosen_on_validation_people_alone(study):
    cells = arms(study)
    held = {
        ("linear_4mm_synthetic-12", 6): 0.99,  # no control
        ("baseline_4mm_real", 6): 0.6,
        ("baseline_4mm_real+classical", 6): 0.7,
        ("linear_4mm_real", 6): 0.7,
        ("baseline_4mm_real", 8): float("nan"),
    }
    assert best_controls(cells, held) == {6: "baseline_4mm_real+classical"}  # of equals, the first


def test_more_people_than_the_split_has_are_refused_before_anything_is_made(study, monkeypatch):
    monkeypatch.chdir(study.root)
    result = CliRunner().invoke(app, ["curve", "--n", "60"])
    assert result.exit_code == 2, result.output
    assert "60" in result.output
    assert not (study.root / "curve").exists()


def test_a_dry_run_says_what_it_would_take_and_makes_nothing(study, monkeypatch):
    monkeypatch.chdir(study.root)
    result = CliRunner().invoke(app, ["curve", "--dry-run", "--splits", "3"])
    assert result.exit_code == 0, result.output
    assert "3 studies: n = 6 per label, 3 splits, 1 runs of each cell" in result.output
    assert "of this machine in all" in result.output
    assert not (study.root / "curve").exists()


@pytest.mark.slow
def test_a_curve_from_split_to_worth(study):
    told = run_curve(study, cores=2)
    folder = study.root / "curve"
    for point in curve_points(study):
        root = point.study.root
        few = set(read_tsv(root / "splits" / "train-6.tsv")["participant_id"])
        spare = set(read_tsv(root / "unlabelled.tsv")["participant_id"])
        tested = set(read_tsv(root / "splits" / "test.tsv")["participant_id"])
        held = set(read_tsv(root / "splits" / "validation.tsv")["participant_id"])
        assert not spare & (few | tested | held)
        lineage = read_tsv(root / "models" / "train-6" / "MDD" / "lineage.tsv")
        assert set(lineage["participant_id"]) == few | spare
    curve = read_tsv(folder / "curve.tsv")
    assert set(curve["arm"]) == {arm_name(cell) for cell in arms(study)}
    row = curve[curve["arm"] == "linear_4mm_real"].iloc[0]
    each = []
    for path in sorted(folder.glob("*/evaluation/train-6_linear_4mm_real/run-0/scores.tsv")):
        scores = pd.read_csv(path, sep="\t")
        positive = (scores["label"] == "MDD").to_numpy()
        values = scores["score"].to_numpy()
        each.append(auc(values[positive], values[~positive]))
    assert float(row["auc"]) == pytest.approx(np.mean(each))
    worth = read_tsv(folder / "worth.tsv")
    assert list(worth["arm"]) == ["linear_4mm_synthetic-12"]
    assert told[0].startswith("n = 6 per label: 12 synthetic per label only (linear): worth")
    assert "worth" in study.report.read_text()
    before = (folder / "curve.tsv").read_bytes()
    assert run_curve(study, cores=2) == told  # nothing is done again
    assert (folder / "curve.tsv").read_bytes() == before
