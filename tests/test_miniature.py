"""The whole protocol in miniature, from the built wheel and by the real engines."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import balanced_accuracy_score, recall_score

# The first test waits for the whole protocol: minutes on two busy cores.
pytestmark = pytest.mark.timeout(1800)
ROOT = Path(__file__).resolve().parent.parent
CONFIG = {
    "phantom": {"n_participants": 20, "seed": 1},
    "bids": "bids",
    "resolution": "4mm",
    "preprocessing": {"profile": "fast", "resolutions": ["1mm", "4mm"]},
    "split": {"n_test": 2, "validation": 0.2, "subsets": []},
    "generator": {
        "width": 4,
        "latent_dim": 4,
        "batch_size": 5,
        "max_epochs": 3,
        "validate_every": 3,
    },
    "evaluation": {
        "runs": 2,
        "runs_per_job": 2,
        "epochs": 1,
        "batch_size": 4,
        "cells": ["real", "synthetic-3", "real+synthetic-3"],
    },
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked where it shadows the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    build += ["--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def neuroaug(installed):
    """Run the command of the wheel."""

    def run(*arguments, cwd):
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        command = [sys.executable, "-m", "neuroaug", *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="module")
def study(neuroaug, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    (folder / "mini.yaml").write_text(yaml.safe_dump(CONFIG))
    result = neuroaug("run", "mini.yaml", "--cores", 2, cwd=folder)
    assert result.returncode == 1, result.stdout + result.stderr  # the unreadable scan
    assert "balanced accuracy" in result.stdout
    return folder / "mini"


def test_the_study_is_laid_out_as_documented(study):
    for name in (
        "neuroaug.yaml",
        "results.tsv",
        "comparisons.tsv",
        "report.html",
        "caps/failures.tsv",
        "caps/qc.tsv",
    ):
        assert (study / name).is_file(), name
    for name in ("test", "train", "validation", "balance", "exclusions"):
        assert (study / "splits" / f"{name}.tsv").is_file(), name
    for label in ("CN", "AD"):
        model = study / "models" / "train" / label
        for name in (
            "config.json",
            "weights.safetensors",
            "metric.safetensors",
            "history.csv",
            "lineage.tsv",
        ):
            assert (model / name).is_file(), name
    assert "phantom" in (study / "report.html").read_text().lower()


def test_the_unreadable_scan_is_one_row_and_the_rest_went_on(study):
    failures = pd.read_csv(study / "caps" / "failures.tsv", sep="\t")
    assert len(failures) == 1
    assert failures["reason"].str.contains("truncated|corrupt|unreadable|gzip", case=False).all()
    used = pd.concat(
        [
            pd.read_csv(study / "splits" / f"{n}.tsv", sep="\t")
            for n in ("train", "validation", "test")
        ]
    )
    assert not set(failures["participant_id"]) & set(used["participant_id"])
    assert not used["participant_id"].duplicated().any()


def test_results_are_what_scikit_learn_computes_from_the_scores(study):
    results = pd.read_csv(study / "results.tsv", sep="\t")
    assert len(results) == 3
    for row in results.itertuples():
        per_run = []
        for path in sorted((study / "evaluation" / row.cell).glob("run-*/scores.tsv")):
            scores = pd.read_csv(path, sep="\t")
            scores = scores[scores["test_set"] == row.test_set]
            per_run.append(
                (
                    balanced_accuracy_score(scores["label"], scores["prediction"]),
                    recall_score(scores["label"], scores["prediction"], pos_label="AD"),
                    recall_score(scores["label"], scores["prediction"], pos_label="CN"),
                )
            )
        assert len(per_run) == row.n_runs == 2
        expected = np.mean(per_run, axis=0)
        found = (row.balanced_accuracy_mean, row.sensitivity_mean, row.specificity_mean)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_synthetic_images_lie_where_the_real_ones_do_and_are_none_of_them(study):
    real = sorted((study / "caps").rglob("*desc-Crop_res-4x4x4_T1w.nii.gz"))
    made = sorted((study / "synthetic" / "train" / "AD").rglob("*_T1w.nii.gz"))
    assert len(made) == 3
    first = nib.load(made[0])
    assert first.shape == nib.load(real[0]).shape == (42, 52, 44)
    np.testing.assert_allclose(first.affine, nib.load(real[0]).affine)
    np.testing.assert_allclose(first.affine[:3, 3], (-82.5, -117.5, -76.5))
    for path in real:
        image = nib.load(path).get_fdata()
        image = (image - image.min()) / (image.max() - image.min())
        assert np.abs(image - first.get_fdata()).max() > 0.01


def test_running_again_does_nothing_again(study, neuroaug):
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*.safetensors")} | {
        p: p.stat().st_mtime_ns for p in study.rglob("scores.tsv")
    }
    result = neuroaug("run", study, "--cores", 2, cwd=study.parent)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "started" not in result.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_inside_the_study_augment_works_as_typed_and_extends(study, neuroaug):
    held = study / "synthetic" / "train" / "AD"
    before = {p: p.read_bytes() for p in held.rglob("*.nii.gz")}
    result = neuroaug("augment", "--label", "AD", "--n", 5, cwd=study)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "of disk" in result.stdout
    after = {p: p.read_bytes() for p in held.rglob("*.nii.gz")}
    assert len(after) == 5
    assert {p: after[p] for p in before} == before


def test_a_generator_that_saw_a_test_participant_is_refused_by_name(study, neuroaug):
    lineage = study / "synthetic" / "train" / "AD" / "lineage.tsv"
    honest = lineage.read_text()
    tested = pd.read_csv(study / "splits" / "test.tsv", sep="\t")
    victim = tested.loc[tested["diagnosis"] == "AD", "participant_id"].iloc[0]
    rows = honest.splitlines()
    fields = rows[1].split("\t")
    lineage.write_text("\n".join([*rows, "\t".join([victim, *fields[1:]])]) + "\n")
    try:
        result = neuroaug("evaluate", "--cell", "synthetic-3", cwd=study)
    finally:
        lineage.write_text(honest)
    assert result.returncode == 2
    assert victim in result.stderr
    assert "Traceback" not in result.stderr


def test_a_split_edited_by_hand_is_refused(study, neuroaug):
    path = study / "splits" / "validation.tsv"
    honest = path.read_text()
    path.write_text("\n".join(honest.splitlines()[:-1]) + "\n")
    try:
        result = neuroaug("evaluate", "--cell", "real", cwd=study)
    finally:
        path.write_text(honest)
    assert result.returncode == 2
    assert "splits" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_no_record_names_the_user_or_a_path(study):
    for path in (study / "caps").rglob("*.json"):
        text = path.read_text()
        assert str(study.parent) not in text, path
        assert json.loads(text) is not None
