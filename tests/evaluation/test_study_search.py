"""The search in a study: on the real training images alone, and the proof of it before a cell uses
its network.
"""

import shutil

import pandas as pd
import pytest
from tiny_caps import write_caps

from neuroaug.cohort.split_folder import write_split_folder
from neuroaug.config import OPTIMISED, Cell, EvaluationConfig, parse_config, write_config
from neuroaug.errors import InputError, LeakageError
from neuroaug.evaluation import search as engine
from neuroaug.evaluation.prepare_runs import prepare
from neuroaug.evaluation.study_search import search_study
from neuroaug.study import Study
from neuroaug.system.files import read_tsv, write_tsv

CELL = f"train-3_{OPTIMISED}_4mm_real"
PEOPLE = [(f"sub-T{i:03d}", ("CN", "AD")[i % 2]) for i in range(20)]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study after its search, which ran while validation and test images were away."""
    root = tmp_path_factory.mktemp("study")
    config = parse_config(
        {
            "resolution": "4mm",
            "split": {"default": "train-3"},
            "evaluation": {"runs": 1, "batch_size": 4, "cells": [CELL]},
            "search": {"draws": 1, "folds": 2, "epochs": 1},
        }
    )
    write_config(root / "neuroaug.yaml", config)
    table = write_caps(root / "caps", PEOPLE).assign(age=70.0, sex="F", site="1")
    sets = {
        "train": table[:10],
        "train-3": table[:6],
        "validation": table[10:14],
        "test": table[14:],
    }
    empty = pd.DataFrame(columns=["participant_id", "session_id", "rule"])
    write_split_folder(
        root / "splits", sets, balance_table=pd.DataFrame(), exclusions=empty, record={}
    )
    study = Study.open(root)
    shutil.move(root / "caps" / "subjects", root / "all")
    for name in sets["train"]["participant_id"]:
        shutil.copytree(root / "all" / name, root / "caps" / "subjects" / name)
    with pytest.MonkeyPatch.context() as patch:
        draw = engine.draw
        small = {
            "n_blocks": 2,
            "first_filters": 4,
            "convolutions_per_block": 1,
            "n_fully_connected": 1,
        }
        patch.setattr(engine, "draw", lambda seed, i: draw(seed, i).model_copy(update=small))
        search_study(study, config.search, resolution="4mm", device="cpu", n_threads=1)
    shutil.rmtree(root / "caps" / "subjects")
    shutil.move(root / "all", root / "caps" / "subjects")
    return study


def test_its_lineage_is_the_whole_training_set_and_nobody_else(searched):
    lineage = read_tsv(searched.root / "search" / "4mm" / "lineage.tsv")
    train = read_tsv(searched.splits / "train.tsv")
    assert sorted(lineage["participant_id"]) == sorted(train["participant_id"])
    assert lineage["image_sha256"].nunique() == len(train)


def test_a_cell_of_its_network_is_proved_clean_and_trains_its_own_epochs(searched):
    (run,) = prepare(searched, [Cell.parse(CELL)], [0])
    assert run.spec is not None
    proof = read_tsv(searched.cell(run.cell) / "leakage.tsv")
    rows = proof[proof["generator"] == "search/4mm"]
    assert {"validation", "test", "split"} <= set(rows["against"])
    assert set(proof["result"]) == {"passed"}


def test_a_network_chosen_on_a_test_participant_is_refused_by_name(searched):
    path = searched.root / "search" / "4mm" / "lineage.tsv"
    honest = read_tsv(path)
    write_tsv(path, pd.concat([honest, honest[:1].assign(participant_id="sub-T015")]))
    try:
        with pytest.raises(LeakageError, match="search/4mm: sub-T015 is in test"):
            prepare(searched, [Cell.parse(CELL)], [0])
        proof = read_tsv(searched.root / "evaluation" / CELL / "leakage.tsv")
        refused = proof[proof["result"] == "refused"]
        assert set(refused["against"]) == {"test", "training set"}
        assert set(refused["n_found"]) == {"1"}
    finally:
        write_tsv(path, honest)


def test_a_network_chosen_in_another_split_is_refused(searched):
    path = searched.root / "search" / "4mm" / "lineage.tsv"
    honest = read_tsv(path)
    write_tsv(path, honest.assign(split_hash="0" * 64))
    try:
        with pytest.raises(LeakageError, match="learned in split 000000000000"):
            prepare(searched, [Cell.parse(CELL)], [0])
    finally:
        write_tsv(path, honest)


def test_without_a_search_the_cell_is_refused_with_the_command(searched):
    cell = Cell.parse(CELL).model_copy(update={"resolution": "2mm"})
    with pytest.raises(InputError, match="run 'neuroaug search --resolution 2mm'"):
        prepare(searched, [cell], [0])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 50),
        ({"epochs": 3}, 3),
        ({"epochs": 3, "optimised_epochs": 9}, 9),
        ({"optimised_epochs": 60}, 60),
    ],
)
def test_epochs_of_the_optimised_network(config, expected):
    evaluation = EvaluationConfig(**config)
    assert evaluation.epochs_of(OPTIMISED) == expected
    assert (
        evaluation.epochs_of("baseline")
        == evaluation.epochs_of("densenet121")
        == config.get("epochs", 100)
    )
