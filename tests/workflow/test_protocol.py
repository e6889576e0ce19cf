"""What the workflow runs again when a study's configuration changes, and what it leaves alone."""

import json

import pytest

from neuroaug.config import parse_config, write_config
from neuroaug.workflow.protocol import Protocol
from neuroaug.workflow.stages.train_stage import generators

BASE = {
    "phantom": {"n_participants": 20},
    "bids": "bids",
    "resolution": "4mm",
    "split": {"subsets": []},
    "evaluation": {
        "runs": 4,
        "runs_per_job": 3,
        "cells": ["real", "synthetic-5", "real+synthetic-9"],
    },
}


@pytest.fixture
def keys(tmp_path):
    """Keys of all jobs of the base study with some values changed: ``keys(generator={"width":
    4})``.
    """

    def build(**changes):
        content = {
            name: dict(value) if isinstance(value, dict) else value for name, value in BASE.items()
        }
        for section, values in changes.items():
            content[section] = (
                {**content.get(section, {}), **values} if isinstance(values, dict) else values
            )
        write_config(tmp_path / "neuroaug.yaml", parse_config(content))
        return {name: job.key for name, job in Protocol.open(tmp_path).jobs.items()}

    return build


def changed(before, after):
    return {job for job in before.keys() | after.keys() if before.get(job) != after.get(job)}


def test_a_study_of_phantoms_has_every_stage(keys):
    jobs = set(keys())
    assert {"phantom", "preprocess-1", "split", "summarise", "report"} <= jobs
    assert {
        "train_train_CN_0",
        "train_train_AD_0",
        "augment_train_CN_0",
        "augment_train_AD_0",
    } <= jobs
    assert "evaluate_train_baseline_4mm_real_runs-0-2" in jobs
    assert "evaluate_train_baseline_4mm_real_runs-3" in jobs


def test_extending_a_synthetic_set_redoes_no_cell_that_uses_its_first_images(keys):
    more = {"cells": ["real", "synthetic-5", "real+synthetic-9", "synthetic-50"]}
    redone = changed(keys(), keys(evaluation=more))
    assert {
        job for job in redone if not job.startswith("evaluate_train_baseline_4mm_synthetic-50")
    } == {
        "augment_train_CN_0",
        "augment_train_AD_0",
        "summarise",
        "report",
    }


def test_a_change_of_the_generator_spares_the_real_cells_and_the_images(keys):
    redone = changed(keys(), keys(generator={"width": 4}))
    assert not {
        job
        for job in redone
        if job.startswith(("phantom", "preprocess", "split")) or "_real_" in job
    }
    assert {
        "train_train_AD_0",
        "augment_train_AD_0",
        "evaluate_train_baseline_4mm_synthetic-5_runs-3",
    } <= redone


def test_more_runs_redo_none(keys):
    redone = changed(keys(), keys(evaluation={"runs": 6}))
    assert "evaluate_train_baseline_4mm_real_runs-0-2" not in redone
    assert "evaluate_train_baseline_4mm_real_runs-3-5" in redone
    assert not {job for job in redone if job.startswith(("train_", "augment_", "split"))}


def test_another_split_redoes_all_that_follows_it(keys):
    redone = changed(keys(), keys(split={"seed": 1}))
    assert redone == {job for job in keys() if not job.startswith(("phantom", "preprocess"))}


def test_runs_take_the_generators_in_turn(keys, tmp_path):
    keys(generator={"seeds": [0, 7]})
    config = Protocol.open(tmp_path).study.config
    real, synthetic, _ = config.cells()
    assert generators(config, synthetic, [3]) == [("train", "CN", 7), ("train", "AD", 7)]
    assert len(generators(config, synthetic, range(4))) == 4
    assert not generators(config, real, range(4))


def test_only_records_with_another_key_are_removed(keys, tmp_path):
    found = keys()
    protocol = Protocol.open(tmp_path)
    for job, key in found.items():
        path = tmp_path / protocol.record(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"key": key}))
    assert protocol.remove_stale_records() == []
    (tmp_path / protocol.record("report")).write_text("{ half")
    keys(generator={"width": 4})
    removed = set(Protocol.open(tmp_path).remove_stale_records())
    assert "report" in removed
    assert "split" not in removed
    assert (tmp_path / protocol.record("split")).is_file()


def test_only_a_cell_of_the_optimised_network_waits_for_a_search(keys, tmp_path):
    assert not {job for job in keys() if job.startswith("search")}
    cells = {"cells": ["real", "train_optimised_4mm_real", "train_optimised_2mm_real"]}
    found = keys(evaluation=cells, search={"jobs": 2})
    assert {job for job in found if job.startswith("search")} == {
        f"search_{resolution}_{part}" for resolution in ("2mm", "4mm") for part in (1, 2)
    }
    protocol = Protocol.open(tmp_path)
    waits = protocol.jobs["evaluate_train_optimised_4mm_real_runs-0-2"].after
    assert set(waits) == {"split", "search_4mm_1", "search_4mm_2"}
    assert protocol.jobs["evaluate_train_baseline_4mm_real_runs-0-2"].after == ("split",)


def test_another_search_redoes_the_cells_of_its_network_alone(keys):
    cells = {"cells": ["real", "train_optimised_4mm_real"]}
    before = keys(evaluation=cells)
    redone = changed(before, keys(evaluation=cells, search={"draws": 7}))
    assert redone == {
        "search_4mm_1",
        "evaluate_train_optimised_4mm_real_runs-0-2",
        "evaluate_train_optimised_4mm_real_runs-3",
        "summarise",
        "report",
    }
    assert not changed(before, keys(evaluation=cells, search={"jobs": 1}))


def test_epochs_of_one_network_redo_no_cell_of_the_other(keys):
    cells = {"cells": ["real", "train_optimised_4mm_real"]}
    redone = changed(keys(evaluation=cells), keys(evaluation={**cells, "optimised_epochs": 7}))
    assert {job for job in redone if job.startswith("evaluate")} == {
        "evaluate_train_optimised_4mm_real_runs-0-2",
        "evaluate_train_optimised_4mm_real_runs-3",
    }


def test_a_merged_table_that_changes_redoes_the_split(tmp_path):
    (tmp_path / "merged.tsv").write_text("participant_id\tsession_id\n")
    write_config(tmp_path / "neuroaug.yaml", parse_config({"tables": "merged.tsv"}))
    before = Protocol.open(tmp_path).jobs["split"].key
    (tmp_path / "merged.tsv").write_text("participant_id\tsession_id\nsub-1\tses-M000\n")
    assert Protocol.open(tmp_path).jobs["split"].key != before
