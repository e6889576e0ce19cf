"""A run from folders to ``scores.tsv``: equal again, exact when resumed, refused when wrong.

Longer than 400 lines because the finished run that most cases alter is trained once for all.
"""

import dataclasses
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from tiny_caps import Cohort, people, write_caps

from neuroaug.config import ClassifierSpec
from neuroaug.errors import DivergenceError, InputError, LeakageError, ResourceError
from neuroaug.evaluation.clinicadl import classifier_checkpoint, classifier_training
from neuroaug.evaluation.run_cells import run_cells
from neuroaug.evaluation.run_folder import is_complete
from neuroaug.evaluation.runs import LabelledFolder
from neuroaug.imaging import caps
from neuroaug.system.files import read_json, read_tsv


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort(tmp_path_factory.mktemp("cohort"))


def do(cohort, *runs, **options):
    return run_cells(list(runs), n_threads=1, device="cpu", cache_folder=cohort.cache, **options)


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    """Folder of one run of real images."""
    out = tmp_path_factory.mktemp("evaluation") / "cell" / "run-0"
    do(cohort, cohort.run(out, epochs=4))
    return out


def test_scores_have_the_promised_columns_and_rows(cohort, finished):
    table = read_tsv(finished / "scores.tsv")
    assert list(table.columns) == [
        "participant_id",
        "session_id",
        "test_set",
        "label",
        "score",
        "prediction",
    ]
    assert list(table["participant_id"]) == list(cohort.test["participant_id"])
    assert list(table["label"]) == list(cohort.test["diagnosis"])
    assert set(table["test_set"]) == {"test"}
    score = table["score"].astype(float)
    assert score.between(0, 1).all()
    assert list(table["prediction"]) == ["AD" if s > 0.5 else "CN" for s in score]


def test_history_record_and_maps_agree_with_the_scores(finished):
    history = read_tsv(finished / "history.tsv").astype(float)
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert list(history["steps"]) == [4, 8, 12, 16]
    record = read_json(finished / "run.json")
    best = history.loc[int(history["validation_balanced_accuracy"].idxmax())]
    assert record["best_epoch"] == best["epoch"]
    scores = read_tsv(finished / "validation-scores.tsv")
    assert (
        balanced_accuracy_score(scores["label"], scores["prediction"])
        == best["validation_balanced_accuracy"]
    )
    tests = read_tsv(finished / "scores.tsv")
    aggregated = "maps/test/group-test/results/split-0/best-ba/metrics/aggregated.tsv"
    reported = float(read_tsv(finished / aggregated)["ba"][0])
    assert reported == pytest.approx(
        balanced_accuracy_score(tests["label"], tests["prediction"]), abs=1e-12
    )
    assert record["gradient_steps"] == 16
    assert record["n_real_per_label"] == {"CN": 7, "AD": 7}
    assert record["versions"]["clinicadl"] == "2.0.0"


def test_a_finished_run_keeps_the_best_weights_only(finished):
    assert [path.parent.name for path in finished.rglob("*.pt")] == ["best-ba"]
    assert not list(finished.glob("checkpoint*"))
    assert not list(finished.rglob(".tmp-*"))


def test_the_record_names_no_place_on_this_machine(cohort, finished):
    for name in ("run.json", "history.tsv", "scores.tsv", "maps/env/environment.txt"):
        assert str(cohort.root) not in (finished / name).read_text()


def test_a_finished_run_is_not_done_again_unless_its_inputs_change(
    cohort, finished, tmp_path, monkeypatch
):
    copy = shutil.copytree(finished, tmp_path / "run-0")

    def never(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier_training, "fit", never)
    do(cohort, cohort.run(copy, epochs=4))
    with pytest.raises(AssertionError, match="trained again"):
        do(cohort, cohort.run(copy, epochs=5))


def test_a_table_edited_by_hand_is_made_again(cohort, finished, tmp_path):
    do(cohort, run := cohort.run(tmp_path / "run-0", epochs=4))
    before = (run.out / "scores.tsv").read_bytes()
    (run.out / "scores.tsv").write_bytes(before.replace(b"AD", b"CN", 1))
    assert not is_complete(run.out)
    do(cohort, run)
    assert (run.out / "scores.tsv").read_bytes() == before == (finished / "scores.tsv").read_bytes()


def test_a_test_set_added_later_is_tested_without_training_again(
    cohort, finished, tmp_path, monkeypatch
):
    copy = shutil.copytree(finished, tmp_path / "run-0")
    table = write_caps(tmp_path / "caps", people(6, first=80), seed=5)
    run = cohort.run(copy, epochs=4)
    run = dataclasses.replace(
        run, tests={**run.tests, "aibl": LabelledFolder(tmp_path / "caps", table)}
    )
    whole = dataclasses.replace(run, out=tmp_path / "whole")
    do(cohort, whole)

    def never(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier_training, "fit", never)
    do(cohort, run)
    scores = read_tsv(copy / "scores.tsv")
    assert list(scores["test_set"]) == ["test"] * 10 + ["aibl"] * 6
    assert (copy / "scores.tsv").read_bytes() == (whole.out / "scores.tsv").read_bytes()
    assert read_json(copy / "run.json")["n_test"] == {"test": 10, "aibl": 6}
    do(cohort, run)  # and is then complete


def test_a_run_does_not_depend_on_the_runs_before_it(cohort, tmp_path):
    runs = [
        cohort.run(tmp_path / f"together/run-{k}", "real+synthetic-8", k=k, epochs=2)
        for k in (0, 1)
    ]
    do(cohort, *runs)
    np.random.seed(99)  # noqa: NPY002
    alone = cohort.run(tmp_path / "alone/run-1", "real+synthetic-8", k=1, epochs=2)
    do(cohort, alone)
    together = [(run.out / "scores.tsv").read_bytes() for run in runs]
    assert (alone.out / "scores.tsv").read_bytes() == together[1]
    assert together[0] != together[1]


def killed_after(epoch, cohort, run):
    """In a child: train until the checkpoint of `epoch` is written, then die without warning."""
    save = classifier_checkpoint.ClassifierCheckpoint.save

    def save_and_die(self, model, state):
        save(self, model, state)
        if state.current_epoch == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    classifier_checkpoint.ClassifierCheckpoint.save = save_and_die
    do(cohort, run)


def sigkill(cohort, run, epoch):
    # Forked, because importing ClinicaDL again would take longer than the test. It has one thread,
    # so that a fork loses nothing.
    child = multiprocessing.get_context("fork").Process(
        target=killed_after, args=(epoch, cohort, run)
    )
    child.start()
    child.join(timeout=120)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("data", ["real", "real+classical+synthetic-5"])
def test_sigkill_and_resume_give_the_same_scores(cohort, tmp_path, data, monkeypatch):
    whole = cohort.run(tmp_path / "whole", data, epochs=4, checkpoint_every_s=0)
    do(cohort, whole)
    run = cohort.run(tmp_path / "killed", data, epochs=4, checkpoint_every_s=0)
    sigkill(cohort, run, epoch=2)
    assert (run.out / "checkpoint.safetensors").is_file()
    assert not (run.out / "run.json").exists()
    epochs = []
    start = classifier_training.KeyedRandomness.on_epoch_start

    def count(self, *, state, **kwargs):
        epochs.append(state.current_epoch)
        start(self, state=state, **kwargs)

    monkeypatch.setattr(classifier_training.KeyedRandomness, "on_epoch_start", count)
    do(cohort, run)
    assert epochs == [3, 4]  # it did go on, and did not start again
    for name in ("scores.tsv", "validation-scores.tsv", "history.tsv"):
        assert (run.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert not (run.out / "checkpoint.safetensors").exists()


def test_a_checkpoint_of_other_inputs_is_passed_over(cohort, tmp_path):
    whole = cohort.run(tmp_path / "whole", epochs=3, checkpoint_every_s=0)
    do(cohort, whole)
    sigkill(
        cohort,
        cohort.run(tmp_path / "killed", epochs=3, checkpoint_every_s=0, learning_rate=1e-2),
        epoch=2,
    )
    run = cohort.run(tmp_path / "killed", epochs=3, checkpoint_every_s=0)
    do(cohort, run)
    assert (run.out / "scores.tsv").read_bytes() == (whole.out / "scores.tsv").read_bytes()


# --- training sets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "n_images", "steps_per_epoch"),
    [("synthetic-9", 18, 5), ("real+synthetic-9", 32, 8), ("real+classical", 14, 4)],
)
def test_training_sets_are_what_the_cell_says(cohort, tmp_path, data, n_images, steps_per_epoch):
    do(cohort, cohort.run(tmp_path / "run-0", data, epochs=1))
    record = read_json(tmp_path / "run-0" / "run.json")
    assert record["n_training_images"] == n_images
    assert record["gradient_steps"] == steps_per_epoch
    assert record["n_synthetic_per_label"] == (9 if "synthetic" in data else 0)
    assert [s["n"] for s in record["synthetic"]] == ([9, 9] if "synthetic" in data else [])


def test_matched_cells_make_the_steps_of_the_real_cell(cohort, finished, tmp_path):
    do(cohort, cohort.run(tmp_path / "run-0", "real+synthetic-10", steps="matched", epochs=4))
    matched, real = read_json(tmp_path / "run-0" / "run.json"), read_json(finished / "run.json")
    assert matched["gradient_steps"] == real["gradient_steps"] == 16
    assert matched["images_per_epoch"] == 16
    history = read_tsv(tmp_path / "run-0" / "history.tsv")
    assert list(history["steps"].astype(int)) == [
        4,
        8,
        12,
        16,
    ]  # validated as often, at equal intervals


def test_classical_augmentation_changes_the_training_only(cohort, finished, tmp_path):
    do(cohort, cohort.run(tmp_path / "run-0", "real+classical", epochs=4))
    plain, augmented = (
        read_tsv(finished / "history.tsv"),
        read_tsv(tmp_path / "run-0" / "history.tsv"),
    )
    assert list(plain["training_loss"]) != list(augmented["training_loss"])


def test_a_large_planted_effect_is_learned(tmp_path):
    cohort = Cohort(tmp_path / "cohort")
    spec = ClassifierSpec(
        n_blocks=2, first_filters=4, n_fully_connected=1, dropout=0.0, learning_rate=3e-3
    )
    run = cohort.run(tmp_path / "run-0", "real+synthetic-10", epochs=12)
    cell = run.cell.model_copy(update={"network": "optimised"})
    do(cohort, dataclasses.replace(run, cell=cell, spec=spec))
    table = read_tsv(tmp_path / "run-0" / "scores.tsv")
    assert balanced_accuracy_score(table["label"], table["prediction"]) == 1.0
    assert read_json(tmp_path / "run-0" / "run.json")["learning_rate"] == 3e-3


# --- bad input -------------------------------------------------------------------------------


def assert_refused(cohort, run, message, error=InputError):
    with pytest.raises(error, match=message) as caught:
        do(cohort, run)
    assert "\n" not in str(caught.value)
    assert not (run.out / "scores.tsv").exists()


def test_empty_validation_class_is_refused_before_training(cohort, tmp_path):
    run = cohort.run(tmp_path / "run-0")
    only = cohort.validation[cohort.validation["diagnosis"] == "CN"]
    run = dataclasses.replace(run, validation=LabelledFolder(cohort.caps, only))
    assert_refused(
        cohort,
        run,
        "the validation set: no participant with label AD; balanced accuracy needs both classes",
    )


def test_a_participant_in_two_sets_is_refused_before_training(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_training, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    test = pd.concat([cohort.test, cohort.train[2:4]])
    run = dataclasses.replace(
        cohort.run(tmp_path / "run-0"), tests={"test": LabelledFolder(cohort.caps, test)}
    )
    assert_refused(
        cohort, run, "sub-T002, sub-T003: in the training set and in test set 'test'", LeakageError
    )


def test_a_tested_image_among_the_synthetic_ones_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_training, "fit", None)
    cohort = Cohort(tmp_path / "cohort")
    tested = caps.t1_linear_image(cohort.caps, caps.Visit("sub-T022", "ses-M000"), "4mm")
    planted = caps.t1_linear_image(
        cohort.synthetic[0].folder, caps.Visit("sub-synCN00003", "ses-M000"), "4mm"
    )
    shutil.copy(tested, planted)
    with pytest.raises(
        LeakageError, match="sub-T022 of test set 'test' is the image of sub-synCN00003 of"
    ):
        do(cohort, cohort.run(tmp_path / "run-0", "synthetic-5"))


def test_images_of_two_grids_in_one_cell_are_refused(cohort, tmp_path):
    table = write_caps(tmp_path / "caps", people(4, first=50), shape=(16, 20, 19))
    run = dataclasses.replace(
        cohort.run(tmp_path / "run-0"), tests={"aibl": LabelledFolder(tmp_path / "caps", table)}
    )
    assert_refused(
        cohort,
        run,
        "sub-T050 ses-M000: image of 16x20x19 voxels, while sub-T000 .* images of one grid",
    )


def test_images_of_two_grids_in_one_table_are_refused(cohort, tmp_path):
    first = write_caps(tmp_path / "caps", people(2, first=60))
    second = write_caps(tmp_path / "caps", people(2, first=62), shape=(16, 20, 19))
    table = pd.concat([first, second])
    run = dataclasses.replace(
        cohort.run(tmp_path / "run-0"), train=LabelledFolder(tmp_path / "caps", table)
    )
    assert_refused(cohort, run, "give images of one grid")


def test_unknown_diagnosis_duplicate_visit_missing_column_and_empty_table(cohort, tmp_path):
    run = cohort.run(tmp_path / "run-0")

    def with_train(table):
        return dataclasses.replace(run, train=LabelledFolder(cohort.caps, table))

    strange = cohort.train.assign(diagnosis=["MCI", *cohort.train["diagnosis"][1:]])
    assert_refused(
        cohort, with_train(strange), "the training set: unknown diagnosis 'MCI'; expected AD, CN"
    )
    twice = pd.concat([cohort.train, cohort.train[:1]])
    assert_refused(cohort, with_train(twice), "the training set: sub-T000 ses-M000 is in it twice")
    renamed = cohort.train.rename(columns={"session_id": "session"})
    assert_refused(
        cohort,
        with_train(renamed),
        r"column\(s\) session_id missing; found participant_id, session, diagnosis",
    )
    assert_refused(cohort, with_train(cohort.train[:0]), "the training set: no visit in it")


def test_too_few_synthetic_images_are_refused(cohort, tmp_path):
    run = cohort.run(tmp_path / "run-0", "synthetic-11")
    assert_refused(
        cohort,
        run,
        "images 1 to 11 of CN are needed, 10 of them are listed; draw them with 'neuroaug augment",
    )
    assert_refused(
        cohort,
        dataclasses.replace(run, synthetic=run.synthetic[:1]),
        "11 synthetic images of AD are needed, 0",
    )


def test_synthetic_images_of_another_label_are_refused(cohort, tmp_path):
    run = cohort.run(tmp_path / "run-0", "synthetic-4")
    cn, ad = run.synthetic
    swapped = [dataclasses.replace(cn, folder=ad.folder), dataclasses.replace(ad, folder=cn.folder)]
    assert_refused(
        cohort, dataclasses.replace(run, synthetic=swapped), "images of AD, where CN is expected"
    )


def test_a_run_that_diverges_is_said_in_one_line(cohort, tmp_path):
    assert_refused(
        cohort,
        cohort.run(tmp_path / "run-0", learning_rate=1e30),
        "not finite|not a number",
        DivergenceError,
    )


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_said_in_one_line(cohort, tmp_path, monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = cohort.run(tmp_path / "run-0")
    message = f"device '{device}': this machine has no GPU that torch can use; take --device cpu"
    with pytest.raises(ResourceError, match=message) as caught:
        run_cells([run], device=device, cache_folder=cohort.cache)
    assert "\n" not in str(caught.value)
    assert not run.out.exists()


def test_a_numbered_gpu_is_the_one_in_the_settings(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    asked = []

    def fit(train, validation, settings, **options):
        asked.append(settings)
        raise InterruptedError

    monkeypatch.setattr(classifier_training, "fit", fit)
    run = cohort.run(tmp_path / "run-0")
    with pytest.raises(InterruptedError):
        run_cells([run], device="cuda:1", cache_folder=cohort.cache)
    (settings,) = asked
    assert (str(settings.device), settings.bf16) == ("cuda:1", True)
