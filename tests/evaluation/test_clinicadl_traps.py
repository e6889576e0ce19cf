"""Each trap of ClinicaDL 2.0.0 that we know of, and the proof that we do not fall into it.

Longer than 400 lines because the three runs that most cases look at are trained once for all.
"""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from clinicadl.metrics import MetricsHandler
from tiny_caps import AFFINE, LABELS, SHAPE, Cohort, people, write_caps, write_synthetic

from neuroaug.errors import DivergenceError, InputError, LeakageError
from neuroaug.evaluation.cell_images import concatenate
from neuroaug.evaluation.clinicadl import classifier_training
from neuroaug.evaluation.clinicadl.callbacks import ScoreRecorder
from neuroaug.evaluation.clinicadl.clinicadl_model import Classifier, TwoClassCrossEntropy, metrics
from neuroaug.evaluation.clinicadl.datasets import Item, VolumeBatch, VolumeDataset
from neuroaug.evaluation.image_store import ImageStore, bids_dataset, read_labelled
from neuroaug.evaluation.runs import ClassifierSettings, RunState
from neuroaug.imaging import caps
from neuroaug.imaging.intensity import from_stored
from neuroaug.imaging.nifti import write_volume


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def store(cohort):
    return ImageStore(cohort.cache, "4mm")


@pytest.fixture(scope="module")
def train(cohort, store):
    return store.real(cohort.caps, cohort.train, LABELS, "train")


@pytest.fixture(scope="module")
def validation(cohort, store):
    return store.real(cohort.caps, cohort.validation, LABELS, "validation")


def settings(**changes):
    values = {
        "network": "baseline",
        "spec": None,
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "seed": 1,
        "n_items": None,
        "classical": False,
        "device": torch.device("cpu"),
        "bf16": False,
    }
    return ClassifierSettings(**(values | changes))


class Fixed(torch.nn.Module):
    """Answers with logits given beforehand, in order; has one weight so that it can be trained."""

    def __init__(self, ad_logits):
        super().__init__()
        self.ad_logits, self.place = torch.tensor(ad_logits), 0
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        chosen = self.ad_logits[self.place : self.place + len(images)]
        self.place += len(images)
        return torch.stack([torch.zeros(len(images)), chosen], dim=1) + 0 * self.weight


def batch(labels):
    items = [
        Item(participant_id=f"sub-{i}", session_id="ses-M000", label=label)
        for i, label in enumerate(labels)
    ]
    return VolumeBatch(items, torch.zeros(len(labels), 1, 2, 2, 2, dtype=torch.uint8))


# --- metrics ---------------------------------------------------------------------------------

# Two AD, one of them found; four CN, three of them found.
TRUTH = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
LOGITS = [2.0, -1.0, -3.0, 0.5, -0.2, -4.0]


@pytest.mark.parametrize(
    "order", [("ba", "sensitivity", "specificity"), ("specificity", "ba", "sensitivity")]
)
def test_every_metric_is_right_whatever_comes_before_it(order):
    """ClinicaDL's confusion-matrix metrics report .625 / 1 / 0 here."""
    model = Classifier(Fixed(LOGITS), learning_rate=1e-3, weight_decay=0)
    ours = metrics()
    handler = MetricsHandler(**{name: ours[name] for name in (*order, "loss")})
    handler.init_metrics(model)
    for labels in (TRUTH[:4], TRUTH[4:]):
        handler(model.evaluation_step(batch(labels)), epoch=1)
    handler.aggregate(epoch=1)
    values = {name: handler.get_metric_value(name, epoch=1) for name in order}
    assert values == {"ba": 0.625, "sensitivity": 0.5, "specificity": 0.75}
    logits = torch.tensor([[0.0, logit] for logit in LOGITS], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(TRUTH).long())
    assert handler.get_metric_value("loss", epoch=1) == pytest.approx(float(expected), rel=1e-6)


def test_metrics_leave_the_batch_as_it_was():
    model = Classifier(Fixed(LOGITS), learning_rate=1e-3, weight_decay=0)
    evaluated = model.evaluation_step(batch(TRUTH))
    before = [
        (float(item["score"]), float(item["prediction"]), item["label"]) for item in evaluated
    ]
    for metric in metrics().values():
        metric(evaluated)
    assert [
        (float(item["score"]), float(item["prediction"]), item["label"]) for item in evaluated
    ] == before


def test_prediction_is_the_class_with_the_higher_score():
    model = Classifier(Fixed(LOGITS), learning_rate=1e-3, weight_decay=0)
    evaluated = model.evaluation_step(batch(TRUTH))
    scores = np.array([float(item["score"]) for item in evaluated])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(LOGITS))), rtol=1e-6)
    assert [float(item["prediction"]) for item in evaluated] == [float(s > 0.5) for s in scores]


def rows(labels, predictions):
    return [{"label": a, "prediction": b} for a, b in zip(labels, predictions, strict=True)]


def test_a_run_fails_when_clinicadl_s_metric_is_not_that_of_the_scores():
    recorder = ScoreRecorder(RunState())
    recorder.rows = rows(["AD", "AD", "CN", "CN", "CN", "CN"], ["AD", "CN", "CN", "AD", "CN", "CN"])

    class Reported:
        def __init__(self, *values):
            self.values = dict(zip(("ba", "sensitivity", "specificity"), values, strict=True))

        def get_metric_value(self, name, epoch=None):
            return self.values[name]

    recorder.check(Reported(0.625, 0.5, 0.75))
    with pytest.raises(
        RuntimeError, match=r"sensitivity: ClinicaDL reports 1\.0, the scores give 0\.5"
    ):
        recorder.check(Reported(0.625, 1.0, 0.0))


def test_a_score_that_is_not_a_number_ends_the_run():
    model = Classifier(Fixed([float("nan")] * 6), learning_rate=1e-3, weight_decay=0)
    recorder = ScoreRecorder(RunState())
    with pytest.raises(DivergenceError, match="sub-0 ses-M000: its score is not a number"):
        recorder.on_metrics_computation_start(output=model.evaluation_step(batch(TRUTH)))


# --- loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_two_output_cross_entropy_takes_targets_as_clinicadl_gives_them(shape):
    logits = torch.tensor([[0.2, 1.0], [0.5, -0.5], [3.0, 0.0]])
    target = torch.tensor([1.0, 0.0, 1.0])
    expected = torch.nn.functional.cross_entropy(logits, target.long())
    torch.testing.assert_close(TwoClassCrossEntropy()(logits, target.reshape(shape)), expected)


# --- order and seeds -------------------------------------------------------------------------


def fitted_with_order(monkeypatch, tmp_path, train, validation, chosen):
    """Train, and return the visits of every training batch and the weights at the start."""
    seen, start = [], {}
    read = VolumeDataset._read

    def spy(self, places):
        found = read(self, places)
        if self.seed is not None:
            seen.append([item["participant_id"] for item in found])
        return found

    build = classifier_training.build_model

    def keep(*args):
        model = build(*args)
        start.update({name: value.clone() for name, value in model.state_dict().items()})
        return model

    with monkeypatch.context() as patch:
        patch.setattr(VolumeDataset, "_read", spy)
        # Validation images under other names, since ClinicaDL refuses to test on validation
        # participants.
        names = validation.table["participant_id"].str.replace("sub-", "sub-other")
        copies = dataclasses.replace(
            validation, table=validation.table.assign(participant_id=names)
        )
        task = classifier_training.ClassificationTask(build_model=keep)
        fitted = classifier_training.fit(
            train, validation, chosen, maps=tmp_path / "maps", tests={"test": copies}, task=task
        )
    return seen, start, fitted


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory, train, validation):
    """One seed twice, then another."""
    patch = pytest.MonkeyPatch()
    return [
        fitted_with_order(
            patch, tmp_path_factory.mktemp("run"), train, validation, settings(seed=seed)
        )
        for seed in (1, 1, 2)
    ]


def epochs_of(seen, n_epochs=3):
    flat = [name for names in seen for name in names]
    size = len(flat) // n_epochs
    return [flat[i * size : (i + 1) * size] for i in range(n_epochs)]


def test_one_seed_twice_is_equal(three_runs):
    (seen, start, fitted), (seen_again, start_again, fitted_again), _ = three_runs
    assert seen == seen_again
    assert all(torch.equal(start[name], start_again[name]) for name in start)
    assert fitted.run.history == fitted_again.run.history
    assert fitted.scores == fitted_again.scores


def test_two_seeds_differ_in_order_and_in_start(three_runs):
    """ClinicaDL's sampler is seeded 0, so that all its runs share one order."""
    (seen, start, fitted), _, (other_seen, other_start, other_fitted) = three_runs
    assert seen != other_seen
    weight = next(name for name in start if name.endswith("weight"))
    assert not torch.equal(start[weight], other_start[weight])
    assert fitted.scores != other_fitted.scores


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(three_runs, train):
    """ClinicaDL's trainer sets the epoch on one loader and reads another, whose order never
    changes.
    """
    first, second, third = epochs_of(three_runs[0][0])
    everyone = sorted(train.table["participant_id"])
    assert sorted(first) == sorted(second) == sorted(third) == everyone
    assert len({tuple(first), tuple(second), tuple(third)}) == 3


def test_the_kept_weights_are_those_of_the_first_best_epoch(three_runs):
    for _, _, fitted in three_runs:
        values = [row["validation_balanced_accuracy"] for row in fitted.run.history]
        assert fitted.run.best_epoch == 1 + int(np.argmax(values))
        # The test set holds the validation images: the weights that were tested are the best
        # epoch's.
        tested, best = fitted.scores["test"], fitted.run.best_scores
        assert [row["score"] for row in tested] == [row["score"] for row in best]


def test_device_settings_are_never_clinicadl_s_defaults():
    """Its defaults ask for a GPU and float16."""
    found = classifier_training.computational(settings())
    assert (found.gpu, found.amp, found.seed, found.deterministic) == (False, False, 1, True)


def test_a_gpu_is_torch_s_current_one_while_it_trains(monkeypatch):
    """Its trainer moves everything to "cuda", whichever GPU that is."""
    entered = []

    @contextmanager
    def current(device):
        entered.append(device)
        yield
        entered.append(None)

    monkeypatch.setattr(torch.cuda, "device", current)
    with classifier_training._arithmetic(settings(device=torch.device("cuda", 1))):
        assert entered == [torch.device("cuda:1")]
    assert entered == [torch.device("cuda:1"), None]
    with classifier_training._arithmetic(settings()):
        assert len(entered) == 2


def test_threads_and_numeric_types_are_as_before_after_a_training():
    before = (torch.get_num_threads(), torch.get_autocast_dtype("cpu"))
    with classifier_training._arithmetic(settings(n_threads=before[0] + 1)) as n_threads:
        assert n_threads == torch.get_num_threads() == before[0] + 1
    assert (torch.get_num_threads(), torch.get_autocast_dtype("cpu")) == before


# --- images ----------------------------------------------------------------------------------


def test_labels_are_floats_and_the_index_starts_at_zero():
    table = pd.DataFrame(
        {"participant_id": ["sub-2", "sub-1"], "session_id": "ses-M000", "diagnosis": ["AD", "CN"]},
        index=[7, 3],
    )
    found = read_labelled(table, LABELS, "table")
    assert list(found.index) == [0, 1]
    assert found["label"].dtype == np.float64
    assert list(found["label"]) == [1.0, 0.0]


def test_clinicadl_s_reader_and_ours_see_the_same_voxels(cohort, train):
    dataset = bids_dataset(cohort.caps, cohort.train, "4mm")
    ours = from_stored(train.stored(np.arange(len(train))))
    for i in (0, 5):
        theirs = dataset[i].image.tensor.numpy()[0]
        theirs = (theirs - theirs.min()) / (theirs.max() - theirs.min())
        assert dataset[i].participant_id == train.table["participant_id"][i]
        np.testing.assert_allclose(ours[i], theirs, atol=0.5 / 255 + 1e-6)


def test_tables_in_any_order_get_the_right_images(cohort, store, train):
    shuffled = cohort.train.sample(frac=1, random_state=3)
    found = store.real(cohort.caps, shuffled, LABELS, "train")
    where = {participant: i for i, participant in enumerate(train.table["participant_id"])}
    same = [where[p] for p in found.table["participant_id"]]
    np.testing.assert_array_equal(found.stored(np.arange(len(found))), train.stored(np.array(same)))


def test_two_caps_of_one_parent_do_not_mix(tmp_path):
    """ClinicaDL writes the tensors of both into one folder."""
    tables = [
        write_caps(tmp_path / name, people(2), seed=seed)
        for seed, name in enumerate(["one", "two"])
    ]
    store = ImageStore(tmp_path / "cache", "4mm")
    one, two = (
        store.real(tmp_path / name, table, LABELS, name)
        for name, table in zip(["one", "two"], tables, strict=True)
    )
    assert not np.array_equal(one.stored(np.array([0])), two.stored(np.array([0])))


def test_synthetic_images_are_not_dropped_and_keep_their_labels(cohort, store, train):
    parts = [
        train,
        *(
            store.synthetic(s.folder, s.label, 6, positive=s.label == "AD")
            for s in cohort.synthetic
        ),
    ]
    joined = concatenate(parts)
    assert len(joined) == len(train) + 12
    dataset = VolumeDataset(joined, seed=4, batch_size=len(joined))
    (whole,) = dataset.__getitems__(range(len(joined)))
    labels = {item["participant_id"]: item["label"] for item in whole}
    assert labels["sub-synAD00006"] == 1.0
    assert labels["sub-synCN00006"] == 0.0
    assert sum(item["synthetic"] for item in whole) == 12
    assert set(joined.table["participant_id"]) == set(labels)


def test_a_synthetic_set_spreads_over_caches_that_extending_it_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr("neuroaug.evaluation.image_store.SYNTHETIC_BLOCK", 4)
    write_synthetic(tmp_path / "syn", "AD", 6, seed=0)
    store = ImageStore(tmp_path / "cache", "4mm")
    whole = store.synthetic(tmp_path / "syn", "AD", 6, positive=True)
    first = store.synthetic(tmp_path / "syn", "AD", 4, positive=True)
    assert [len(cache) for cache in whole.caches] == [4, 2]
    assert first.caches[0] is whole.caches[0]
    np.testing.assert_array_equal(whole.stored(np.arange(4)), first.stored(np.arange(4)))
    assert first.sha256() == whole.take(range(4)).sha256()


def test_batches_hold_floats_between_zero_and_one_in_the_trainer_s_layout(train):
    dataset = VolumeDataset(train, batch_size=4)
    (found,) = dataset.__getitems__([0, 1, 2, 3])
    found.to(torch.device("cpu"), channels_last=True)
    images = found.get_field("image", dtype=torch.float32)
    assert images.shape == (4, 1, *SHAPE)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last_3d)
    assert float(images.amin()) == 0.0
    assert float(images.amax()) == 1.0
    torch.testing.assert_close(found.get_field("label"), torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_reading_ahead_changes_nothing(train):
    plain = VolumeDataset(train, seed=5, batch_size=4)
    ahead = VolumeDataset(train, seed=5, batch_size=4, read_ahead=True)
    for epoch in (1, 2):
        plain.set_epoch(epoch)
        ahead.set_epoch(epoch)
        for start in range(0, len(train), 4):
            places = list(range(start, min(start + 4, len(train))))
            (a,), (b,) = plain.__getitems__(places), ahead.__getitems__(places)
            assert torch.equal(a.voxels, b.voxels)
            assert list(a) == list(b)


def test_a_last_batch_of_one_gets_a_second_image(train):
    dataset = VolumeDataset(train.take(range(13)), seed=5, batch_size=4)
    assert len(dataset) == 14
    assert dataset.order[-1] == dataset.order[0]
    assert sorted(set(dataset.order)) == list(range(13))


# --- what ClinicaDL cannot see, or says badly ------------------------------------------------


def test_a_participant_in_two_sets_is_refused_by_name(tmp_path, train, validation):
    both = concatenate([train, validation.take([2])])
    name = validation.table["participant_id"][2]
    with pytest.raises(LeakageError, match=name) as caught:
        classifier_training.fit(both, validation, settings(epochs=1), maps=tmp_path / "maps")
    assert "\n" not in str(caught.value)


def test_a_visit_without_image_is_named(cohort, store):
    table = pd.concat(
        [
            cohort.train,
            pd.DataFrame(
                [{"participant_id": "sub-none", "session_id": "ses-M000", "diagnosis": "CN"}]
            ),
        ]
    )
    with pytest.raises(InputError, match="train: sub-none ses-M000 has no 4mm image"):
        store.real(cohort.caps, table, LABELS, "train")


def test_two_images_of_one_visit_are_refused(tmp_path):
    table = write_caps(tmp_path / "caps", people(2))
    visit = caps.Visit("sub-T000", "ses-M000")
    path = caps.t1_linear_image(tmp_path / "caps", visit, "4mm")
    write_volume(
        path.with_name(path.name.removesuffix(".gz")),
        np.random.default_rng(0).random(SHAPE),
        AFFINE,
    )
    with pytest.raises(InputError, match="one image by their names"):
        ImageStore(tmp_path / "cache", "4mm").real(tmp_path / "caps", table, LABELS, "train")


def test_images_with_the_names_of_older_clinicas_are_read(tmp_path):
    """ClinicaDL passes over them; the user would have had to rename a cohort."""
    table = write_caps(tmp_path / "caps", people(4), seed=3)
    usual = ImageStore(tmp_path / "one", "4mm").real(tmp_path / "caps", table, LABELS, "train")
    stored = usual.stored(np.arange(4))
    for path in sorted((tmp_path / "caps").glob("subjects/sub-T00[01]/*/t1_linear/*.nii.gz")):
        path.rename(path.with_name(path.name.replace("_space-", "_T1w_space-")))
    older = ImageStore(tmp_path / "two", "4mm").real(tmp_path / "caps", table, LABELS, "train")
    np.testing.assert_array_equal(older.stored(np.arange(4)), stored)
