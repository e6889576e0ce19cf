"""How long to train is found on people who were left out, and then everyone is learned from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from test_resume import assert_same, stop_at
from test_training import blobs, people, weights_of
from test_training import run as train_blobs

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError, TrainingInterrupted
from neuroaug.system.files import read_tsv
from neuroaug.training import random_order

N = 12
SETTINGS = {"width": 1, "latent_dim": 2, "batch_size": 4, "model": "vae", "max_epochs": 6}
FOLDED = GeneratorConfig(**SETTINGS, stopping="cross-validated", folds=3)


def run(out: Path, config: GeneratorConfig = FOLDED, **options: object) -> object:
    return train_blobs(out, blobs(N), config=config, checkpoint_seconds=0.0, **options)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "folded"
    run(out)
    return out


def record(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["training"]


def test_folds_part_people_not_images_and_share_every_label():
    names = [f"sub-{i // 2:02d}" for i in range(40)]  # two visits each
    labels = ["HC" if i < 24 else "MDD" for i in range(40)]
    fold = random_order.folds(3, names, labels, 4)
    assert {(n, f) for n, f in zip(names, fold, strict=True)} == {
        (n, fold[2 * i]) for i, n in enumerate(sorted(set(names)))
    }
    for label in ("HC", "MDD"):
        n = np.bincount(fold[np.array(labels) == label], minlength=4)
        assert n.max() - n.min() <= 2  # images; a person is two of them
    again = random_order.folds(3, names[::-1], labels[::-1], 4)
    np.testing.assert_array_equal(again, fold[::-1])  # whatever the order of the rows
    assert not np.array_equal(random_order.folds(4, names, labels, 4), fold)


def test_everyone_is_learned_from_for_the_steps_that_were_best_for_people_left_out(folded):
    told, curve = record(folded), read_tsv(folded / "folds.tsv", ("fold", "epoch", "steps", "elbo"))
    curve = curve.astype(float)
    best = curve.loc[curve.groupby("fold")["elbo"].idxmax()]
    assert told["fold_steps"] == best["steps"].astype(int).tolist()
    assert told["held_out_elbo"] == pytest.approx(best["elbo"].mean())
    assert told["n_images"] == N
    epochs = round(np.mean(told["fold_steps"]) / 3)  # 12 images in batches of 4
    assert told["epochs"] == told["best_epoch"] == max(1, epochs)
    assert len(read_tsv(folded / "lineage.tsv", ())) == N
    assert {path.name for path in folded.iterdir()} == {
        *("config.json", "weights.safetensors", "metric.safetensors", "history.csv"),
        *("lineage.tsv", "environment.json", "folds.tsv"),
    }


def test_the_weights_are_those_of_so_many_epochs_on_everyone(folded, tmp_path):
    epochs = record(folded)["epochs"]
    plain = GeneratorConfig(**{**SETTINGS, "max_epochs": epochs, "validate_every": epochs})
    run(tmp_path / "plain", plain)
    ours, theirs = weights_of(folded), weights_of(tmp_path / "plain")
    for name, tensor in theirs.items():
        assert tensor.equal(ours[name]), name


@pytest.mark.parametrize("stopped_at", [2, 20, 38])
def test_a_run_that_is_stopped_in_a_fold_or_after_goes_on_to_the_same_weights(
    folded, tmp_path, monkeypatch, stopped_at
):
    with monkeypatch.context() as patch:
        stop_at(patch, stopped_at)
        with pytest.raises(TrainingInterrupted):
            run(tmp_path / "again")
    run(tmp_path / "again")
    assert_same(folded, tmp_path / "again")
    assert (tmp_path / "again" / "folds.tsv").read_bytes() == (folded / "folds.tsv").read_bytes()
    assert not (tmp_path / "again" / "folds").exists()


def test_a_label_with_fewer_people_than_folds_is_refused(tmp_path):
    config = FOLDED.model_copy(update={"folds": 13})
    with pytest.raises(InputError, match=r"label 'AD': 12 training participants for 13 folds"):
        run(tmp_path / "model", config)
    assert not (tmp_path / "model").exists()


def test_a_family_in_closed_form_has_nothing_to_stop(tmp_path):
    config = GeneratorConfig(model="linear", stopping="cross-validated")
    with pytest.raises(InputError, match="model linear is found at once"):
        run(tmp_path / "model", config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stopping": "held-out"}, "held_out, the share to keep"),
        ({"stopping": "training", "held_out": 0.1}, "held_out must be 0"),
        ({"stopping": "cross-validated", "held_out": 0.1}, "held_out must be 0"),
        ({"stopping": "cross-validated", "folds": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        GeneratorConfig(**settings)


def test_a_configuration_without_it_is_written_as_before():
    assert not {"stopping", "folds"} & set(GeneratorConfig().model_dump())
    assert GeneratorConfig(stopping="training").model_dump()["stopping"] == "training"


def test_people_of_two_labels_are_dealt_evenly(tmp_path):
    both = pd.concat([people(8, "HC"), people(8, "MDD")], ignore_index=True)
    both["participant_id"] = [f"sub-{i:02d}" for i in range(16)]
    run_options = {"label": None, "lineage": both}
    train_blobs(tmp_path / "m", blobs(16), config=FOLDED, **run_options)
    assert record(tmp_path / "m")["n_images"] == 16
