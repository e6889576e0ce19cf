"""What happens around a run's training loop: randomness by epoch, loss, scores, the best epoch.

ClinicaDL's `TrainingLossCallback` is replaced: it grows a table cell by cell, which is quadratic in
the number of steps, and waits for the GPU at each. Its `ModelCheckpointCallback` and
`TrainingCheckpointCallback` are replaced by `BestEpoch` and
`classifier_checkpoint.ClassifierCheckpoint`, which survive a kill at any moment and save no random
state because there is none to save.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from clinicadl.callbacks import Callback, CallbacksHandler
from clinicadl.callbacks.implemented.checks import ChecksCallback
from clinicadl.callbacks.implemented.config_saver import ConfigSaverCallback
from clinicadl.callbacks.implemented.metrics_saver import MetricsSaverCallback

from neuroaug.config import PUBLISHED_LABELS
from neuroaug.errors import DivergenceError
from neuroaug.evaluation.clinicadl.clinicadl_model import (
    BALANCED_ACCURACY,
    LOSS,
    PREDICTION,
    SCORE,
    SENSITIVITY,
    SPECIFICITY,
)
from neuroaug.evaluation.runs import RunState
from neuroaug.statistics.scores import rates
from neuroaug.system.progress import Progress
from neuroaug.system.randomness import CLASSIFIER

if TYPE_CHECKING:
    from clinicadl.data.dataloader import Batch
    from clinicadl.io.maps import Maps
    from clinicadl.metrics import MetricsHandler
    from clinicadl.models import Model
    from clinicadl.train import TrainerState

METRIC_OF = {
    "balanced_accuracy": BALANCED_ACCURACY,
    "sensitivity": SENSITIVITY,
    "specificity": SPECIFICITY,
}
"""ClinicaDL's name of each of `neuroaug.statistics.columns.MEASURES`."""

_TOLERANCE = 1e-12


class Handler(CallbacksHandler):
    """Exactly the callbacks given, and those of ClinicaDL's that check and record."""

    @staticmethod
    def _get_default() -> list[Callback]:
        return []

    @staticmethod
    def _get_mandatory() -> list[Callback]:
        return [ChecksCallback(), ConfigSaverCallback(), MetricsSaverCallback()]


class KeyedRandomness(Callback):
    """Seeds every generator at the start of each epoch from (seed, epoch).

    Dropout and augmentation of epoch e are then the same whether the run got there in one go or was
    killed and started again, and whatever ran in the process before.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_epoch_start(self, *, state: TrainerState, **kwargs: Any) -> None:
        """Seed Python, NumPy and torch."""
        seed = CLASSIFIER.seed(self.seed, "epoch", state.current_epoch)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (MONAI and ClinicaDL draw from it)
        torch.manual_seed(seed)


class LossRecorder(Callback):
    """Mean training loss of each epoch, without waiting for the device at every step."""

    def __init__(self, run: RunState) -> None:
        self.run = run
        self._losses: list[torch.Tensor] = []

    def on_epoch_start(self, *, state: TrainerState, **kwargs: Any) -> None:
        """Open the epoch's row."""
        self._losses = []
        self.run.history.append({"epoch": state.current_epoch})

    def on_backward_step_start(self, *, loss: torch.Tensor, **kwargs: Any) -> None:
        """Keep the loss where it is."""
        self._losses.append(loss.detach())

    def on_validation_start(self, *, state: TrainerState, **kwargs: Any) -> None:
        """Average; a loss that is not a number ends the run."""
        loss = float(torch.stack(self._losses).double().mean())
        if not math.isfinite(loss):
            raise DivergenceError(
                f"epoch {state.current_epoch}: the training loss is not finite; "
                "choose a smaller learning rate"
            )
        self.run.history[-1].update(steps=state.optim_step, training_loss=loss)

    def on_train_end(self, *, maps: Maps, state: TrainerState, **kwargs: Any) -> None:
        """Write the losses where ClinicaDL would, one row per epoch."""
        logs = maps.training.splits[state.split_idx].logs
        logs.create(exist_ok=True)
        table = pd.DataFrame(self.run.history)[["epoch", "training_loss"]]
        maps.save_file(table, path=logs.training_loss_tsv, overwrite=True)


class ScoreRecorder(Callback):
    """Per-image scores of every evaluation, and the proof that the metrics follow from them.

    ClinicaDL keeps no predictions. At the end of every validation and test, balanced accuracy,
    sensitivity and specificity are recomputed from the scores as every reported number is; the run
    fails if they are not those that ClinicaDL aggregated.

    Parameters
    ----------
    run : RunState
        Takes the history.
    classes : (str, str)
        Negative and positive class, by their names in the tables.
    """

    def __init__(self, run: RunState, classes: tuple[str, str] = PUBLISHED_LABELS) -> None:
        self.run, self.classes = run, classes
        self.rows: list[dict[str, Any]] = []

    def on_validation_start(self, **kwargs: Any) -> None:
        """Forget the last evaluation."""
        self.rows = []

    def on_test_start(self, **kwargs: Any) -> None:
        """Forget the last evaluation."""
        self.rows = []

    def on_metrics_computation_start(self, *, output: Batch, **kwargs: Any) -> None:
        """Keep the scores of a batch."""
        for item in output:
            score = float(item[SCORE])
            if not math.isfinite(score):
                raise DivergenceError(
                    f"{item['participant_id']} {item['session_id']}: its score is not a number; "
                    "the network diverged, choose a smaller learning rate"
                )
            self.rows.append(
                {
                    "participant_id": item["participant_id"],
                    "session_id": item["session_id"],
                    "label": self.classes[int(item["label"] > 0.5)],
                    "score": score,
                    "prediction": self.classes[int(float(item[PREDICTION]) > 0.5)],
                }
            )

    def on_validation_end(
        self, *, metrics: MetricsHandler, state: TrainerState, **kwargs: Any
    ) -> None:
        """Check the metrics and add them to the epoch's row."""
        self.check(metrics, epoch=state.current_epoch)
        row = self.run.history[-1]
        for name, metric in {"loss": LOSS, **METRIC_OF}.items():
            row[f"validation_{name}"] = metrics.get_metric_value(metric, epoch=state.current_epoch)

    def on_test_end(self, *, metrics: MetricsHandler, **kwargs: Any) -> None:
        """Check the metrics."""
        self.check(metrics)

    def check(self, metrics: MetricsHandler, epoch: int | None = None) -> None:
        """Compare ClinicaDL's metrics with those of the scores.

        Raises
        ------
        RuntimeError
            If any differs.
        """
        for name, expected in rates(pd.DataFrame(self.rows), self.classes[1]).items():
            found = metrics.get_metric_value(METRIC_OF[name], epoch=epoch)
            both_undefined = math.isnan(found) and math.isnan(expected)
            if not both_undefined and not abs(found - expected) <= _TOLERANCE:
                raise RuntimeError(f"{name}: ClinicaDL reports {found}, the scores give {expected}")


class BestEpoch(Callback):
    """Keeps the weights of the epoch with the best validation balanced accuracy.

    Of equal epochs, the earliest. The weights stay in memory and are written into the MAPS once, at
    the end, as ClinicaDL's ``best-ba`` checkpoint: the only weights that a finished run keeps.

    Attributes
    ----------
    weights : Path or None
        File that they were written to, after the training.
    """

    def __init__(self, run: RunState, scores: ScoreRecorder) -> None:
        self.run, self.scores = run, scores
        self.weights: Path | None = None

    def on_validation_end(
        self, *, model: Model, metrics: MetricsHandler, state: TrainerState, **kwargs: Any
    ) -> None:
        """Compare with the best so far."""
        value = metrics.get_metric_value(BALANCED_ACCURACY, epoch=state.current_epoch)
        if math.isnan(value):
            raise RuntimeError(
                "validation balanced accuracy is not a number: the validation set lacks a class"
            )
        if value > self.run.best_value:
            self.run.best_epoch, self.run.best_value = state.current_epoch, value
            self.run.best_weights = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in model.state_dict().items()
            }
            self.run.best_scores = list(self.scores.rows)

    def on_train_end(self, *, maps: Maps, state: TrainerState, **kwargs: Any) -> None:
        """Write the best weights into the MAPS."""
        models = maps.training.splits[state.split_idx].models.best_models
        models.create_metric(BALANCED_ACCURACY, exist_ok=True)
        folder = models.metrics[BALANCED_ACCURACY]
        folder.validation_metrics.create(exist_ok=True)
        self.weights = Path(folder.model_pt)
        maps.save_file(self.run.best_weights, path=self.weights, overwrite=True)
        table = pd.DataFrame(self.run.history)
        best = table[table["epoch"] == self.run.best_epoch]
        maps.save_file(best, path=folder.validation_metrics.aggregated_tsv, overwrite=True)


class ShowEpochs(Callback):
    """One progress line for a run."""

    def __init__(self, tracker: Progress, run: RunState) -> None:
        self.tracker, self.run = tracker, run

    def on_epoch_end(self, *, state: TrainerState, **kwargs: Any) -> None:
        """Count the epoch."""
        self.tracker.done = state.current_epoch - 1
        self.tracker.advance(
            balanced_accuracy=f"{self.run.best_value:.3f} (epoch {self.run.best_epoch})"
        )
