"""Synthetic images are trained on by the law's probability of their label, or by the label."""

import numpy as np
import pandas as pd
import pytest
import tiny_caps
import torch

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.evaluation.clinicadl.clinicadl_model import TwoClassCrossEntropy
from neuroaug.evaluation.image_store import ImageStore
from neuroaug.evaluation.run_cells import read_images, run_cells
from neuroaug.system.files import read_tsv, write_tsv


@pytest.fixture
def cohort(tmp_path):
    return tiny_caps.Cohort(tmp_path)


def give_probabilities(cohort, value):
    """Write the probability of each image's own label into the synthetic sets."""
    for part in cohort.synthetic:
        path = part.folder / "participants.tsv"
        table = read_tsv(path, ())
        values = [value] * len(table) if np.isscalar(value) else value[: len(table)]
        write_tsv(path, table.assign(probability=values))


def targets(cohort, data):
    run = cohort.run(cohort.root / "out", data)
    store = ImageStore(cohort.cache, "4mm")
    return read_images(run, store).train.targets


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        ("synthetic-10", "auto"),
        ("synthetic-10-hard", "hard"),
        ("real+synthetic-10", "hard"),
        ("real+synthetic-10-soft", "soft"),
        ("real+classical+synthetic-10-soft", "soft"),
    ],
)
def test_the_cells_name_says_how_its_images_are_labelled(data, labels):
    cell = Cell.parse(f"train-50_baseline_2mm_{data}_steps-matched")
    assert (cell.synthetic_labels, cell.n_synthetic) == (labels, 10)
    assert Cell.parse(cell.name) == cell


def test_a_target_is_the_probability_of_the_positive_class(cohort):
    give_probabilities(cohort, 0.8)
    found = targets(cohort, "synthetic-10")
    np.testing.assert_allclose(found, [0.2] * 10 + [0.8] * 10)  # CN, then AD
    assert targets(cohort, "synthetic-10-hard") is None
    assert targets(cohort, "real+synthetic-10") is None
    mixed = targets(cohort, "real+synthetic-10-soft")
    assert set(mixed[:14]) == {0.0, 1.0}
    np.testing.assert_allclose(mixed[14:], [0.2] * 10 + [0.8] * 10)


def test_certain_probabilities_train_as_hard_labels_do(cohort):
    hard = run_cells([cohort.run(cohort.root / "hard", "synthetic-10-hard")], device="cpu")
    give_probabilities(cohort, 1)
    soft = run_cells([cohort.run(cohort.root / "soft", "synthetic-10")], device="cpu")
    scores = [pd.read_csv(path, sep="\t")["score"] for (path,) in (hard, soft)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_uncertain_ones_do_not(cohort):
    hard = run_cells([cohort.run(cohort.root / "hard", "synthetic-10-hard")], device="cpu")
    give_probabilities(cohort, 0.5)
    soft = run_cells([cohort.run(cohort.root / "soft", "synthetic-10")], device="cpu")
    scores = [pd.read_csv(path, sep="\t")["score"] for (path,) in (hard, soft)]
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_the_soft_loss_is_the_expectation_of_the_hard_one():
    loss = TwoClassCrossEntropy()
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = torch.linspace(0, 1, 5, dtype=torch.float64)
    each = [
        (1 - q) * loss(row[None], torch.tensor([0.0])) + q * loss(row[None], torch.tensor([1.0]))
        for row, q in zip(logits, p, strict=True)
    ]
    torch.testing.assert_close(loss.soft(logits, p), torch.stack(each).mean())


def test_soft_labels_that_are_not_there_are_refused(cohort):
    with pytest.raises(InputError, match="no column 'probability'"):
        targets(cohort, "real+synthetic-10-soft")
    assert targets(cohort, "synthetic-10") is None  # nothing was asked for by name


@pytest.mark.parametrize("bad", ["1.2", "n/a", "much"])
def test_what_is_no_probability_is_refused_by_name(cohort, bad):
    give_probabilities(cohort, ["0.5"] * 3 + [bad] + ["0.5"] * 6)
    with pytest.raises(InputError, match=r"sub-synCN00004: probability .* in \[0, 1\]"):
        targets(cohort, "synthetic-10")
