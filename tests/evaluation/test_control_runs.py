"""Controls run as cells: scores, records and reruns as those of networks."""

import numpy as np
import pandas as pd
import pytest
import tiny_caps
from sklearn.metrics import roc_auc_score

from neuroaug.config import Cell, Control
from neuroaug.errors import InputError
from neuroaug.evaluation.run_cells import run_cells
from neuroaug.statistics.scores import read_scores
from neuroaug.system.files import read_json


@pytest.fixture
def cohort(tmp_path):
    return tiny_caps.Cohort(tmp_path)


def control(cohort, network, data="real", out="out", **changes):
    run = cohort.run(cohort.root / out, data)
    cell = run.cell.model_copy(update={"network": network})
    return type(run)(**{**vars(run), "cell": cell, **changes})


def with_ages(cohort):
    """AD is brighter in a corner, and so are the old: brain age tells them apart."""
    rng = np.random.default_rng(0)
    for name in ("train", "validation", "test"):
        table = getattr(cohort, name)
        older = 8 * (table["diagnosis"] == "AD")
        setattr(cohort, name, table.assign(age=70 + rng.normal(0, 1, len(table)) + older))


@pytest.mark.parametrize("data", ["real", "synthetic-10", "real+synthetic-10"])
def test_linear_tells_apart_what_differs_and_leaves_what_a_run_leaves(cohort, data):
    (path,) = run_cells([control(cohort, "linear", data)], device="cpu")
    scores = read_scores(path, ("CN", "AD"))
    assert len(scores) == len(cohort.test)
    assert roc_auc_score(scores["label"] == "AD", scores["score"]) > 0.9
    record = read_json(path.parent / "run.json")
    assert record["network"]["class"] == "linear"
    assert record["n_training_images"] == {"real": 14, "synthetic-10": 20}.get(data, 34)
    before = path.stat().st_mtime_ns
    run_cells([control(cohort, "linear", data)], device="cpu")
    assert path.stat().st_mtime_ns == before  # finished: not done again


def test_its_soft_targets_are_the_images_probabilities(cohort):
    from neuroaug.system.files import read_tsv, write_tsv

    (hard,) = run_cells([control(cohort, "linear", "synthetic-10-hard", "hard")], device="cpu")
    for part in cohort.synthetic:
        path = part.folder / "participants.tsv"
        write_tsv(path, read_tsv(path, ()).assign(probability=0.5))
    (soft,) = run_cells([control(cohort, "linear", "synthetic-10", "soft")], device="cpu")
    spread = [pd.read_csv(path, sep="\t")["score"].std() for path in (hard, soft)]
    assert spread[1] < 1e-3 < spread[0]


def test_brain_age_needs_ages_and_depends_on_them(cohort):
    with pytest.raises(InputError, match="network brain-age: 0 training people with an age"):
        run_cells([control(cohort, "brain-age")], device="cpu")
    with_ages(cohort)
    (path,) = run_cells([control(cohort, "brain-age")], device="cpu")
    first = path.read_bytes()
    cohort.test = cohort.test.assign(age=cohort.test["age"] + np.arange(len(cohort.test)))
    (path,) = run_cells([control(cohort, "brain-age")], device="cpu")
    assert path.read_bytes() != first  # other ages: done again


def test_a_bayes_rule_needs_a_generator_with_a_law(cohort):
    with pytest.raises(InputError, match="no generator with a law was given"):
        run_cells([control(cohort, "bayes-rule")], device="cpu")


def test_a_cell_of_a_control_is_named_as_any_other():
    for network in Control:
        cell = Cell.parse(f"train-50_{network.value}_2mm_real+synthetic-5000")
        assert cell.control is network
    assert Cell.parse("train_baseline_2mm_real").control is None
