"""A study with labels of its own, HC and MDD, from tables to report; nothing of AD or CN in it."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny_caps
import yaml

from neuroaug.config import parse_config
from neuroaug.errors import InputError
from neuroaug.imaging.grid import GRIDS
from neuroaug.statistics.scores import measures
from neuroaug.system.files import write_tsv

pytestmark = pytest.mark.timeout(900)
LABELS = {
    "column": "group",
    "values": {"HC": "control", "MDD": ["depr", "Dysthymia"]},
    "positive": "MDD",
}
CONFIG = {
    "caps": "caps",
    "tables": "tables",
    "cohort": "custom",
    "labels": LABELS,
    "resolution": "4mm",
    "split": {"n_test": 3, "validation": 0.3, "subsets": []},
    "generator": {
        "width": 4,
        "latent_dim": 2,
        "batch_size": 5,
        "max_epochs": 2,
        "validate_every": 2,
        "patience": 2,
    },
    "evaluation": {"runs": 1, "epochs": 1, "batch_size": 4, "cells": ["real", "real+synthetic-2"]},
}
# The two-letter names as words, or as parts of names between which nothing else can stand.
FORBIDDEN = re.compile(rb"(?<![A-Za-z0-9+/])(?:syn)?(?:AD|CN)(?![A-Za-z+/=])")


def write_study(root, people, config=CONFIG):
    """Write images on the 4 mm grid, a table without sessions, and the configuration."""
    rng = np.random.default_rng(0)
    tiny_caps.caps.write_dataset_description(root / "caps", name="own labels")
    grid = GRIDS["4mm"]
    for participant, group in people:
        volume = rng.random(grid.shape, dtype=np.float32)
        volume[10:20, 10:20, 10:20] += float(group != "control")
        visit = tiny_caps.caps.Visit(participant, "ses-M000")
        path = tiny_caps.caps.t1_linear_image(root / "caps", visit, "4mm")
        tiny_caps.write_volume(path, volume, grid.affine, level=1)
    table = pd.DataFrame(people, columns=["participant_id", "group"])
    table["age"] = rng.normal(40, 5, len(table)).round(1)
    table["gender"] = ["f", "m"] * (len(table) // 2)
    write_tsv(root / "tables" / "participants.tsv", table)
    (root / "neuroaug.yaml").write_text(yaml.safe_dump(config))


def people(*groups, n=12):
    return [(f"sub-{i:02d}", groups[i % len(groups)]) for i in range(n * len(groups))]


def test_the_whole_protocol_speaks_of_the_studys_own_labels(tmp_path, neuroaug):
    root = tmp_path / "study"
    write_study(root, people("control", "depr"))
    neuroaug(root, "split")
    test = pd.read_csv(root / "splits" / "test.tsv", sep="\t")
    assert test["diagnosis"].value_counts().to_dict() == {"HC": 3, "MDD": 3}
    for label in ("HC", "MDD"):
        neuroaug(root, "augment", "--label", label, "--n", 2)
        assert (root / "synthetic" / "train" / label / "participants.tsv").is_file()
    neuroaug(root, "evaluate")
    neuroaug(root, "report")
    scores = pd.read_csv(next((root / "evaluation").glob("*/run-0/scores.tsv")), sep="\t")
    assert set(scores["label"]) == {"HC", "MDD"}
    page = (root / "report.html").read_text()
    assert "MDD is the positive class" in page
    assert "a classifier of MDD against HC better?" in page
    assert "published, %" not in page

    shutil.rmtree(root / "cache", ignore_errors=True)
    named = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        if FORBIDDEN.search(str(path.relative_to(root)).encode()):
            named.append(f"name of {path}")
        content = path.read_bytes()
        if path.suffix == ".html":
            content = re.sub(rb"data:image/[^\"']*", b"", content)
        if path.suffix in (".gz", ".npy", ".npz", ".pt"):
            continue  # compressed or raw voxels: any two bytes occur
        if path.suffix == ".safetensors":
            content = content[8 : 8 + int.from_bytes(content[:8], "little")]
        named += [f"{path}: {found[0]!r}" for found in FORBIDDEN.finditer(content)]
    assert not named


def test_of_three_labels_two_are_told_apart_once_the_negative_one_is_named(tmp_path, neuroaug):
    values = {"HC": "control", "MDD": "depr", "BD": "bipolar"}
    labels = {**LABELS, "values": values}
    groups = people("control", "depr", "bipolar", n=10)
    write_study(tmp_path, groups, {**CONFIG, "labels": labels})
    neuroaug(tmp_path, "split")
    said = neuroaug(tmp_path, "evaluate", code=2)
    assert "name labels.negative" in said
    neuroaug(tmp_path, "augment", "--label", "BD", "--n", 1)
    config = {**CONFIG, "labels": {**labels, "negative": "HC"}}
    config["evaluation"] = {**CONFIG["evaluation"], "cells": ["real"]}
    (tmp_path / "neuroaug.yaml").write_text(yaml.safe_dump(config))
    neuroaug(tmp_path, "evaluate")
    scores = pd.read_csv(next((tmp_path / "evaluation").glob("*/run-0/scores.tsv")), sep="\t")
    assert set(scores["label"]) == {"HC", "MDD"}


def test_sensitivity_is_that_of_the_positive_class():
    scores = pd.DataFrame(
        {
            "label": ["HC", "HC", "HC", "MDD"],
            "prediction": ["HC", "HC", "MDD", "MDD"],
            "score": [0.1, 0.2, 0.6, 0.9],
        }
    )
    one = measures(scores, "MDD")
    other = measures(scores.assign(score=1 - scores["score"]), "HC")
    assert (one["sensitivity"], one["specificity"]) == (1, pytest.approx(2 / 3))
    assert (other["sensitivity"], other["specificity"]) == (pytest.approx(2 / 3), 1)
    assert one["balanced_accuracy"] == other["balanced_accuracy"]
    assert one["auc"] == other["auc"]


def test_an_unchanged_configuration_has_the_classes_of_the_papers():
    config = parse_config({})
    assert config.classes == config.class_labels == config.ordered_labels == ("CN", "AD")


def test_one_label_alone_cannot_be_told_apart():
    one = {"column": "group", "values": {"MDD": "depr"}, "positive": "MDD"}
    config = parse_config({"cohort": "custom", "labels": one})
    with pytest.raises(InputError, match="a classifier needs two"):
        _ = config.classes
