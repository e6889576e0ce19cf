"""Classifiers of K classes, trained and tested by ClinicaDL's engine as `neuroaug.evaluation` does.

What the engine knows of two diagnoses is replaced by its `ClassificationTask`: predictions by the
largest logit, mean recall over K classes, scores by class number. The loop, the order of images,
the choice of the epoch and the seeds are its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from clinicadl.metrics import Metric
from numpy.typing import NDArray

from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.clinicadl.callbacks import ScoreRecorder
from neuroaug.evaluation.clinicadl.classifier_training import ClassificationTask, fit
from neuroaug.evaluation.clinicadl.clinicadl_model import (
    BALANCED_ACCURACY,
    LOGITS,
    LOSS,
    PREDICTION,
    SCORE,
    Classifier,
    MeanCrossEntropy,
)
from neuroaug.evaluation.clinicadl.datasets import IMAGE, LABEL
from neuroaug.evaluation.runs import ClassifierSettings
from neuroaug.published.digits import digit_networks
from neuroaug.published.digits.digit_images import LabelledImages
from neuroaug.system.devices import find_devices
from neuroaug.system.randomness import CLASSIFIER

if TYPE_CHECKING:
    from clinicadl.data.dataloader import Batch
    from clinicadl.metrics import MetricsHandler
    from clinicadl.train import TrainerState

    from neuroaug.imaging.cache import CohortCache

SCORED_AT_ONCE = 500


@dataclass(frozen=True)
class DigitTraining:
    """How a classifier is trained.

    Attributes
    ----------
    network : str
        ``small`` or ``densenet``.
    steps : int
        Gradient steps, the same for every training set.
    validate_every : int
        Steps between two validations.
    batch_size : int
        Images per step.
    learning_rate, weight_decay : float
        Settings of Adam.
    device : str
        Where to train: ``cpu``; ``auto`` takes a GPU where there is one.
    """

    network: str = "small"
    steps: int = 600
    validate_every: int = 30
    batch_size: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    device: str = "cpu"


class ManyClasses(Classifier):
    """A network of K outputs."""

    def evaluation_step(self, batch: Batch) -> Batch:
        """Add ``logits``, ``score`` (largest probability) and ``prediction`` (its class)."""
        logits = self.network(batch.get_field(IMAGE, dtype=torch.float32)).double().cpu()
        score, prediction = logits.softmax(1).max(1)
        batch.add_field(logits, LOGITS)
        batch.add_field(score, SCORE)
        batch.add_field(prediction.double(), PREDICTION)
        return batch


class MeanRecall(Metric):
    """Mean over the classes of the share of their images that were recognised."""

    _optimum = "max"

    def _accumulate(self, batch: Batch) -> torch.Tensor:
        return torch.stack([batch.get_field(LABEL), batch.get_field(PREDICTION)], dim=1).double()

    def _aggregate(self, data: torch.Tensor) -> float:
        return mean_recall(data[:, 0].numpy(), data[:, 1].numpy())


def mean_recall(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Balanced accuracy of class numbers, over the classes that occur."""
    recalls = [np.mean(prediction[truth == label] == label) for label in np.unique(truth)]
    return float(np.mean(recalls))


def _metrics() -> dict[str, Metric]:
    return {BALANCED_ACCURACY: MeanRecall(), LOSS: MeanCrossEntropy()}


class ClassRecorder(ScoreRecorder):
    """Predictions of every evaluation, as class numbers."""

    def on_metrics_computation_start(self, *, output: Batch, **kwargs: Any) -> None:
        """Keep the predictions of a batch."""
        for item in output:
            self.rows.append({"label": int(item["label"]), "prediction": int(item[PREDICTION])})

    def on_validation_end(
        self, *, metrics: MetricsHandler, state: TrainerState, **kwargs: Any
    ) -> None:
        """Check the metric and add it to the epoch's row."""
        self.check(metrics, epoch=state.current_epoch)
        row = self.run.history[-1]
        for metric, name in {LOSS: "loss", BALANCED_ACCURACY: "balanced_accuracy"}.items():
            row[f"validation_{name}"] = metrics.get_metric_value(metric, epoch=state.current_epoch)

    def check(self, metrics: MetricsHandler, epoch: int | None = None) -> None:
        """Compare ClinicaDL's metric with that of the predictions.

        Raises
        ------
        RuntimeError
            If they differ.
        """
        rows = pd.DataFrame(self.rows)
        found = metrics.get_metric_value(BALANCED_ACCURACY, epoch=epoch)
        expected = mean_recall(rows["label"].to_numpy(), rows["prediction"].to_numpy())
        if not abs(found - expected) <= 1e-12:
            raise RuntimeError(
                f"{BALANCED_ACCURACY}: ClinicaDL reports {found}, the predictions give {expected}"
            )


@dataclass(frozen=True, eq=False)
class _InMemory:
    """What the engine asks of a cache of images."""

    images: NDArray[np.uint8]
    folder: Path = Path("memory")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.images.shape[1:]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Affine of pixels of 1 mm."""
        return np.eye(4)


def as_images(part: LabelledImages, name: str, *, synthetic: bool = False) -> Images:
    """Wrap images for the engine, each a participant whose id begins with the set's `name`."""
    n = len(part)
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{name}{i:06d}" for i in range(n)],
            "session_id": "ses-M000",
            "diagnosis": part.labels.astype(str),
            "label": part.labels.astype(np.float64),
        }
    )
    cache = cast("CohortCache", _InMemory(part.images))
    return Images(table, (cache,), np.zeros(n, np.int64), np.arange(n), np.full(n, synthetic))


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier of its best epoch.

    Attributes
    ----------
    accuracy : dict of str to float
        Share of each test set that is recognised.
    validation : float
        Balanced accuracy of the validation set at the epoch kept.
    best_epoch : int
        That epoch; an epoch is what lies between two validations.
    network : Module
        The network with the weights of that epoch, in evaluation mode.
    """

    accuracy: dict[str, float]
    validation: float
    best_epoch: int
    network: digit_networks.SmallCnn | digit_networks.DenseNet

    @torch.no_grad()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What the last layer reads, (N, F)."""
        return self._by_parts(images, self.network.features)

    @torch.no_grad()
    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probabilities of the classes, (N, K)."""
        return self._by_parts(images, lambda x: self.network(x).softmax(1))

    def _by_parts(
        self, images: NDArray[np.uint8], function: Callable[[torch.Tensor], torch.Tensor]
    ) -> NDArray[np.float64]:
        parts = torch.from_numpy(images)[:, None].split(SCORED_AT_ONCE)
        return np.concatenate([function(part.float() / 255).double().numpy() for part in parts])


def train(
    training: LabelledImages,
    validation: LabelledImages,
    tests: Mapping[str, LabelledImages],
    *,
    n_classes: int,
    settings: DigitTraining,
    seed: int,
    title: str,
) -> Trained:
    """Train a classifier, keep the epoch of best validation balanced accuracy, and test it.

    Parameters
    ----------
    training, validation : LabelledImages
        Images to learn from, and images to choose the epoch by.
    tests : mapping of str to LabelledImages
        Test sets by name.
    n_classes : int
        Number of classes, K.
    settings : DigitTraining
        The network and how it is trained.
    seed : int
        Seed of weights, order and dropout.
    title : str
        What the progress line calls this training.
    """

    def model(
        engine: ClassifierSettings, shape: tuple[int, int, int], voxel_mm: float
    ) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(CLASSIFIER.seed(engine.seed, "weights"))
            network = digit_networks.build(settings.network, shape[0], n_classes)
        return ManyClasses(
            network, learning_rate=engine.learning_rate, weight_decay=engine.weight_decay
        )

    engine = ClassifierSettings(
        network=settings.network,
        spec=None,
        epochs=max(1, settings.steps // settings.validate_every),
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=seed,
        n_items=settings.validate_every * settings.batch_size,
        classical=False,
        device=find_devices(settings.device).first,
        bf16=False,
    )
    tested = {name: as_images(test, f"test{i}x") for i, (name, test) in enumerate(tests.items())}
    with tempfile.TemporaryDirectory(prefix="neuroaug-published-") as scratch:
        found = fit(
            as_images(training, "train"),
            as_images(validation, "validation"),
            engine,
            maps=Path(scratch) / "maps",
            tests=tested,
            title=title,
            task=ClassificationTask(model, _metrics, ClassRecorder),
        )
    accuracy = {
        name: float(np.mean([row["label"] == row["prediction"] for row in rows]))
        for name, rows in found.scores.items()
    }
    network = digit_networks.build(settings.network, training.images.shape[1], n_classes)
    weights = {k.removeprefix("network."): v for k, v in found.run.best_weights.items()}
    network.load_state_dict(weights)
    return Trained(accuracy, found.run.best_value, found.run.best_epoch, network.eval())
