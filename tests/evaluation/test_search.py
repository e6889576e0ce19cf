"""The random search: fixed draws, balanced folds, work shared and taken up again."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
from tiny_caps import Cohort

from neuroaug.config import ClassifierSpec, EvaluationConfig, SearchConfig
from neuroaug.errors import InputError, ResourceError
from neuroaug.evaluation import search as searching
from neuroaug.evaluation.clinicadl import classifier_training
from neuroaug.evaluation.runs import LabelledFolder
from neuroaug.system.files import read_json, read_tsv

CONFIG = SearchConfig(draws=3, folds=2, epochs=2, seed=0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """The real draws are too wide for a test; keep their spread, not their size."""
    real = searching.draw

    def small(seed, i):
        return real(seed, i).model_copy(
            update={"n_blocks": 2, "first_filters": 4, "convolutions_per_block": 1}
        )

    monkeypatch.setattr(searching, "draw", small)


def do(cohort, out, config=CONFIG, device="cpu"):
    return searching.search(
        LabelledFolder(cohort.caps, cohort.train),
        out=out,
        config=config,
        evaluation=EvaluationConfig(batch_size=4),
        resolution="4mm",
        device=device,
        n_threads=1,
        cache_folder=cohort.cache,
    )


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        real = searching.draw
        patch.setattr(
            searching,
            "draw",
            lambda seed, i: real(seed, i).model_copy(
                update={"n_blocks": 2, "first_filters": 4, "convolutions_per_block": 1}
            ),
        )
        do(cohort, out)
    return out


def test_draws_depend_on_the_seed_and_their_number_alone():
    first = [searching.draw(0, i) for i in range(5)]
    assert [searching.draw(0, i) for i in reversed(range(5))] == first[::-1]
    assert len(set(first)) == 5
    assert searching.draw(1, 0) != first[0]


def test_folds_share_each_label_evenly_and_hold_everyone_once():
    labels = ["AD"] * 11 + ["CN"] * 14
    parts = searching.folds(labels, 5, seed=3)
    assert sorted(np.concatenate(parts)) == list(range(25))
    for label, few, many in (("AD", 2, 3), ("CN", 2, 3)):
        assert {sum(labels[p] == label for p in part) for part in parts} == {few, many}
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert not all(
        np.array_equal(a, b) for a, b in zip(parts, searching.folds(labels, 5, seed=4), strict=True)
    )


def test_more_folds_than_participants_are_refused():
    with pytest.raises(
        InputError, match="label AD: 2 training participants for 3 folds; use fewer folds"
    ):
        searching.folds(["AD", "AD", "CN", "CN", "CN"], 3, seed=0)


def test_the_best_mean_over_the_folds_is_kept(finished):
    table = read_tsv(finished / "draws.tsv")
    values = table[["fold_0", "fold_1"]].astype(float)
    means = table["balanced_accuracy_mean"].astype(float)
    np.testing.assert_allclose(means, values.mean(axis=1))
    best = ClassifierSpec.model_validate(read_json(finished / "best.json"))
    row = table.iloc[int(np.argmax(means))]
    assert best.dropout == float(row["dropout"])
    assert best.learning_rate == float(row["learning_rate"])
    assert not list(finished.rglob("maps"))


def test_optuna_opens_the_journal(finished):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(finished / "optuna.journal")))
    study = optuna.load_study(study_name="classifier", storage=storage)
    table = read_tsv(finished / "draws.tsv")
    assert [trial.value for trial in study.trials] == list(
        table["balanced_accuracy_mean"].astype(float)
    )


def test_more_draws_later_keep_the_first_ones(cohort, finished, monkeypatch):
    trained = []
    fit = classifier_training.fit

    def count(*args, **kwargs):
        trained.append(kwargs["title"])
        return fit(*args, **kwargs)

    monkeypatch.setattr(classifier_training, "fit", count)
    before = read_tsv(finished / "draws.tsv")
    do(cohort, finished, CONFIG.model_copy(update={"draws": 4}))
    assert trained == ["trial 3 fold 0", "trial 3 fold 1"]
    after = read_tsv(finished / "draws.tsv")
    assert after[:3].equals(before)


def _killed(cohort, out):
    write = searching.write_json

    def write_and_die(path, content):
        write(path, content)
        if path.name == "fold-0.json" and path.parent.name == "draw-001":
            os.kill(os.getpid(), signal.SIGKILL)

    searching.write_json = write_and_die
    do(cohort, out)


def test_two_processes_and_a_kill_find_what_one_process_finds(cohort, finished, tmp_path):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_killed, args=(cohort, tmp_path))
    child.start()
    child.join(timeout=120)
    assert child.exitcode == -signal.SIGKILL
    assert (tmp_path / "draws/draw-001/fold-0.json").is_file()
    assert not (tmp_path / "best.json").exists()
    helper = context.Process(target=do, args=(cohort, tmp_path))
    helper.start()
    do(cohort, tmp_path)
    helper.join(timeout=120)
    assert helper.exitcode == 0
    assert read_tsv(tmp_path / "draws.tsv").equals(read_tsv(finished / "draws.tsv")[:3])


def test_a_gpu_that_is_not_there_is_said_in_one_line(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ResourceError, match="device 'cuda:1': this machine has no GPU") as caught:
        do(cohort, tmp_path, device="cuda:1")
    assert "\n" not in str(caught.value)
