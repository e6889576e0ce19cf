"""What a cell may add: duplicates, mixup, test-time augmentation, an ensemble."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny_caps
import torch

from neuroaug.config import Cell, StudyConfig
from neuroaug.errors import InputError
from neuroaug.evaluation.arms.mixup import Mixup
from neuroaug.evaluation.cell_images import with_duplicates
from neuroaug.evaluation.classical_augmentation import N_VERSIONS, TestTimeAugmentation
from neuroaug.evaluation.clinicadl.clinicadl_model import Classifier
from neuroaug.evaluation.clinicadl.datasets import Item, VolumeBatch
from neuroaug.evaluation.image_store import ImageStore
from neuroaug.evaluation.run_cells import read_images, run_cells
from neuroaug.report.content import data_text
from neuroaug.statistics.scores import read_scores
from neuroaug.workflow.rehearse import rehearse


@pytest.fixture
def cohort(tmp_path):
    return tiny_caps.Cohort(tmp_path)


def scores(out):
    return read_scores(out / "scores.tsv", ("CN", "AD"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("real+duplicates-40", "real + 40 duplicates per label"),
        ("real+mixup", "real + mixup"),
        ("real+classical+tta", "real + classical augmentation + test-time augmentation"),
        ("soft-unlabelled", "unlabelled scans (soft labels) only"),
        ("real+soft-unlabelled", "real + unlabelled scans (soft labels)"),
        (
            "synthetic-9+soft-unlabelled",
            "9 synthetic per label + unlabelled scans (soft labels) only",
        ),
        ("real+ensemble-5", "real + ensemble of 5"),
        (
            "synthetic-40-soft+ensemble-3",
            "40 synthetic per label (soft labels) + ensemble of 3 only",
        ),
        (
            "real+classical+mixup+duplicates-4+synthetic-9-hard+tta+ensemble-2",
            "real + classical augmentation + mixup + 4 duplicates per label + "
            "9 synthetic per label (hard labels) + test-time augmentation + ensemble of 2",
        ),
    ],
)
def test_every_part_stands_in_the_cells_name_and_in_the_reports_words(data, words):
    cell = Cell.parse(f"train_baseline_4mm_{data}")
    assert cell.name == f"train_baseline_4mm_{data}"
    assert data_text(data) == words
    assert StudyConfig().cell(data).data == data  # by its data alone


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("real+tta", r"tta repeats the training's augmentation; write \+classical too"),
        ("real+mixup+classical", "not understood"),
        ("real+duplicates-0", "not understood"),
        ("real+ensemble-0", "not understood"),
        ("synthetic-4+duplicates-4", "not understood"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        Cell.parse(f"train_baseline_4mm_{data}")


def test_a_control_that_is_fitted_at_once_takes_no_part_of_training():
    with pytest.raises(InputError, match="linear is fitted at once, no mixup"):
        Cell.parse("train_linear_4mm_real+mixup")
    assert Cell.parse("train_linear_4mm_real+duplicates-4").n_duplicates == 4


def test_duplicates_are_the_real_images_again_each_as_often(cohort):
    store = ImageStore(cohort.cache, "4mm")
    run = cohort.run(cohort.root / "out", "real+duplicates-10")
    train = read_images(run, store).train
    real = read_images(cohort.run(cohort.root / "out"), store).train
    assert len(train) == len(real) + 20
    assert set(train.image_sha256()) == set(real.image_sha256())
    assert not train.synthetic.any()
    for label in ("AD", "CN"):
        counts = train.table[train.table["diagnosis"] == label]["participant_id"].value_counts()
        assert counts.sum() == (real.table["diagnosis"] == label).sum() + 10
        assert counts.max() - counts.min() <= 1


def test_duplicates_of_synthetic_images_are_not_made(cohort):
    store = ImageStore(cohort.cache, "4mm")
    both = read_images(cohort.run(cohort.root / "out", "real+synthetic-10"), store).train
    more = with_duplicates(both, 6)
    assert more.synthetic.sum() == both.synthetic.sum()


def test_a_cell_of_duplicates_makes_the_steps_of_one_of_synthetic_images(cohort):
    steps = []
    for data in ("real+duplicates-10", "real+synthetic-10"):
        out = cohort.root / data
        run_cells([cohort.run(out, data)], device="cpu")
        steps.append(json.loads((out / "run.json").read_text())["gradient_steps"])
    assert steps[0] == steps[1]


def test_mixup_mixes_images_and_labels_by_the_same_share_and_repeats_exactly():
    images = torch.eye(4)[:, None, :, None, None]  # image i is 1 at place i
    targets = torch.tensor([1.0, 0.0, 1.0, 0.0])
    batch = [{"epoch": 2, "place": 4 + i} for i in range(4)]
    mixed, soft = Mixup(7)(images, targets, batch)
    weights = mixed[:, 0, :, 0, 0]  # how much of each image
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    torch.testing.assert_close(weights @ targets, soft)
    again, _ = Mixup(7)(images, targets, batch)
    assert torch.equal(again, mixed)
    other, _ = Mixup(7)(images, targets, [{"epoch": 3, "place": 4 + i} for i in range(4)])
    assert not torch.equal(other, mixed)


def test_mixup_changes_the_training_and_not_the_test_images(cohort):
    for data in ("real", "real+mixup"):
        run_cells([cohort.run(cohort.root / data, data)], device="cpu")
    plain, mixed = (scores(cohort.root / data)["score"] for data in ("real", "real+mixup"))
    assert np.abs(plain - mixed).max() > 1e-4
    again = cohort.root / "again"
    run_cells([cohort.run(again, "real+mixup")], device="cpu")
    pd.testing.assert_series_equal(scores(again)["score"], mixed)


def test_versions_of_a_tested_image_are_its_own_whatever_the_batch():
    images = torch.rand(3, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    people = [{"participant_id": f"sub-{i}", "session_id": "ses-M000"} for i in range(3)]
    augment = TestTimeAugmentation((12, 12, 12), 4.0, 5, torch.device("cpu"))
    together = list(augment(images, people))
    assert len(together) == N_VERSIONS
    alone = list(augment(images[2:], people[2:]))
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one[2:], other)
        assert not torch.equal(one[2:], images[2:])


def test_test_time_augmentation_trains_the_same_and_averages_logits(cohort):
    for data in ("real+classical", "real+classical+tta"):
        run_cells([cohort.run(cohort.root / data, data)], device="cpu")
    one, averaged = (cohort.root / data for data in ("real+classical", "real+classical+tta"))
    history = [pd.read_csv(out / "history.tsv", sep="\t") for out in (one, averaged)]
    pd.testing.assert_series_equal(history[0]["training_loss"], history[1]["training_loss"])
    for name in ("scores.tsv", "validation-scores.tsv"):
        plain, mean = (read_scores(out / name, ("CN", "AD"))["score"] for out in (one, averaged))
        assert (plain != mean).all()


def test_logits_are_averaged_over_the_image_and_its_versions_while_asked_for():
    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x):
            total = x.flatten(1).sum(1)
            return torch.stack([-total, total], dim=1)

    def versions(images, batch):
        yield images + 1
        yield images - 4

    voxels = torch.rand(2, 1, 2, 2, 2)
    items = [Item(label=0.0) for _ in range(2)]
    model = Classifier(Sum(), learning_rate=1e-3, weight_decay=0, test_time=versions)
    plain = model.evaluation_step(VolumeBatch(items, voxels)).get_field("logits")
    model.averages = True
    averaged = model.evaluation_step(VolumeBatch(items, voxels)).get_field("logits")
    shift = 8 * (0 + 1 - 4) / 3  # eight voxels
    expected = plain + torch.tensor([-shift, shift], dtype=torch.float64)
    torch.testing.assert_close(averaged, expected, rtol=1e-5, atol=1e-5)


def test_without_versions_test_time_augmentation_is_none(cohort, monkeypatch):
    from neuroaug.evaluation import classical_augmentation

    monkeypatch.setattr(classical_augmentation, "N_VERSIONS", 0)
    for data in ("real+classical", "real+classical+tta"):
        run_cells([cohort.run(cohort.root / data, data, epochs=2)], device="cpu")
    for name in ("scores.tsv", "validation-scores.tsv"):
        one, other = (
            read_scores(cohort.root / data / name, ("CN", "AD"))["score"]
            for data in ("real+classical", "real+classical+tta")
        )
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members_which_differ_by_seed(cohort):
    out = cohort.root / "together"
    run_cells([cohort.run(out, "real+ensemble-3")], device="cpu")
    members = sorted((out / "members").iterdir())
    found = [scores(member)["score"].to_numpy() for member in members]
    assert len(found) == 3
    assert np.abs(found[0] - found[1]).max() > 1e-6
    table = scores(out)
    np.testing.assert_allclose(table["score"], np.mean(found, axis=0), atol=1e-12)
    assert ((table["score"] > 0.5) == (table["prediction"] == "AD")).all()
    record = json.loads((out / "run.json").read_text())
    assert record["network"]["members"] == 3
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.tsv")}
    run_cells([cohort.run(out, "real+ensemble-3")], device="cpu")  # nothing is done again
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.tsv")}


def test_an_ensemble_that_was_killed_keeps_its_finished_members(cohort, monkeypatch):
    from neuroaug.evaluation.clinicadl import classifier_training

    whole, again = cohort.root / "whole", cohort.root / "again"
    run_cells([cohort.run(whole, "real+ensemble-2")], device="cpu")
    fit, n = classifier_training.fit, iter(range(10))

    def killed(*arguments, **options):
        if next(n) == 1:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(classifier_training, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            run_cells([cohort.run(again, "real+ensemble-2")], device="cpu")
    assert not (again / "run.json").exists()
    first = next(again.glob("members/*-0/scores.tsv")).stat().st_mtime_ns
    run_cells([cohort.run(again, "real+ensemble-2")], device="cpu")
    assert next(again.glob("members/*-0/scores.tsv")).stat().st_mtime_ns == first
    assert (again / "scores.tsv").read_bytes() == (whole / "scores.tsv").read_bytes()


def test_a_rehearsal_makes_few_duplicates_too():
    cells = ["real", "real+duplicates-5000", "real+synthetic-5000"]
    content = {"phantom": {}, "evaluation": {"cells": cells}}
    rehearsed, _ = rehearse(StudyConfig.model_validate(content))
    assert [cell.data for cell in rehearsed.cells()] == [
        "real",
        "real+duplicates-2",
        "real+synthetic-2",
    ]
