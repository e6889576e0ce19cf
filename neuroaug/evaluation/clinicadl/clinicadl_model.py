"""The supervised model of a run, its loss and its metrics, as ClinicaDL objects.

ClinicaDL's own metrics are not used: their ``postprocessing`` changes the batch that the next
metric reads, so that every metric after the first is wrong. Here `Classifier.evaluation_step` adds
what metrics need as further fields, and the metrics only read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from clinicadl.metrics import Metric
from clinicadl.models import SupervisedModel
from clinicadl.optim.optimizers.config import AdamConfig
from torch import nn

from neuroaug.evaluation.arms.mixup import Mixup
from neuroaug.evaluation.clinicadl.datasets import IMAGE, LABEL, TARGET, VolumeBatch

if TYPE_CHECKING:
    from clinicadl.data.dataloader import Batch

LOGITS, SCORE, PREDICTION = "logits", "score", "prediction"
Augmentation = Callable[[torch.Tensor, VolumeBatch], torch.Tensor]
Versions = Callable[[torch.Tensor, Sequence[Any]], Iterator[torch.Tensor]]


class TwoClassCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy on two outputs, as in the papers, for targets as ClinicaDL gives them.

    ClinicaDL hands the loss a float target of shape (B, 1), on which `nn.CrossEntropyLoss` crashes
    or, worse, reads class probabilities.
    """

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(B, 2) logits and (B,) or (B, 1) targets 0. or 1. -> loss."""
        return super().forward(logits, target.reshape(len(logits)).long())

    def soft(self, logits: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
        """(B, 2) logits and probabilities of the positive class, (B,) or (B, 1) -> loss."""
        positive = probability.reshape(len(logits))
        return super().forward(logits, torch.stack([1 - positive, positive], dim=1))


class Classifier(SupervisedModel):
    """A two-output network trained by cross-entropy with Adam.

    Parameters
    ----------
    network : nn.Module
        (B, 1, X, Y, Z) -> (B, 2) logits (negative, positive class).
    learning_rate, weight_decay : float
        Step size and weight decay of the Adam optimiser.
    augmentation : callable, optional
        (images, batch) -> images, applied in training only.
    mixup : Mixup, optional
        Mixes images and targets in training, after the augmentation.
    test_time : callable, optional
        (images, batch) -> several versions of the images, whose logits are averaged while
        `averages` is set.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        augmentation: Augmentation | None = None,
        mixup: Mixup | None = None,
        test_time: Versions | None = None,
    ) -> None:
        super().__init__(
            network=network,
            loss=TwoClassCrossEntropy(),
            optimizer=AdamConfig(lr=learning_rate, weight_decay=weight_decay),
            label_key=LABEL,
        )
        self.augmentation, self.mixup, self.test_time = augmentation, mixup, test_time
        self.averages = False

    def forward_step(self, batch: Batch) -> torch.Tensor:
        """Loss of a training batch, augmented first where the model has an augmentation."""
        images = batch.get_field(IMAGE, dtype=torch.float32)
        if self.augmentation is not None and isinstance(batch, VolumeBatch):
            images = self.augmentation(images, batch)
        soft = TARGET in batch[0]
        targets = batch.get_field(TARGET if soft else LABEL, dtype=torch.float32)
        assert isinstance(targets, torch.Tensor)
        if self.mixup is not None:
            images, targets = self.mixup(images, targets.reshape(len(images)), batch)
            soft = True
        if soft:
            assert isinstance(self.loss, TwoClassCrossEntropy)
            return self.loss.soft(self.network(images), targets)
        return self.loss(self.network(images), targets)

    def evaluation_step(self, batch: Batch) -> Batch:
        """Add ``logits``, ``score`` = P(positive class), ``prediction`` = score > 1/2 to the batch.

        The score is computed in float64, so that the prediction and the score agree for every
        image.
        """
        images = batch.get_field(IMAGE, dtype=torch.float32)
        logits = self.network(images).double().cpu()
        if self.averages and self.test_time is not None:
            assert isinstance(images, torch.Tensor)
            others = [self.network(x).double().cpu() for x in self.test_time(images, batch)]
            logits = torch.stack([logits, *others]).mean(0)
        score = torch.sigmoid(logits[:, 1] - logits[:, 0])
        batch.add_field(logits, LOGITS)
        batch.add_field(score, SCORE)
        batch.add_field((score > 0.5).double(), PREDICTION)
        return batch


class _Rates(Metric):
    """Sensitivity and specificity from the predictions of all batches; never changes the batch."""

    _optimum: Literal["min", "max"] = "max"

    def _accumulate(self, batch: Batch) -> torch.Tensor:
        return torch.stack([batch.get_field(LABEL), batch.get_field(PREDICTION)], dim=1).double()

    @staticmethod
    def rates(data: torch.Tensor) -> tuple[float, float]:
        """(sensitivity, specificity); NaN where a class is absent."""
        truth, prediction = data[:, 0] > 0.5, data[:, 1] > 0.5
        positives, negatives = int(truth.sum()), int((~truth).sum())
        sensitivity = int((prediction & truth).sum()) / positives if positives else math.nan
        specificity = int((~prediction & ~truth).sum()) / negatives if negatives else math.nan
        return sensitivity, specificity

    def _aggregate(self, data: torch.Tensor) -> float:
        sensitivity, specificity = self.rates(data)
        return (sensitivity + specificity) / 2


class BalancedAccuracy(_Rates):
    """Mean of sensitivity and specificity."""


class Sensitivity(_Rates):
    """Fraction of the positive class called positive."""

    def _aggregate(self, data: torch.Tensor) -> float:
        return self.rates(data)[0]


class Specificity(_Rates):
    """Fraction of the negative class called negative."""

    def _aggregate(self, data: torch.Tensor) -> float:
        return self.rates(data)[1]


class MeanCrossEntropy(Metric):
    """Cross-entropy averaged over images (not over batches, of which the last may be smaller)."""

    _optimum: Literal["min", "max"] = "min"

    def _accumulate(self, batch: Batch) -> torch.Tensor:
        logits, labels = batch.get_field(LOGITS), batch.get_field(LABEL)
        return nn.functional.cross_entropy(
            logits.double(), labels.long(), reduction="none"
        ).unsqueeze(1)

    def _aggregate(self, data: torch.Tensor) -> float:
        return float(data.mean())


BALANCED_ACCURACY, SENSITIVITY, SPECIFICITY, LOSS = "ba", "sensitivity", "specificity", "loss"


def metrics() -> dict[str, Metric]:
    """The metrics of a run, by the names that its MAPS uses."""
    return {
        BALANCED_ACCURACY: BalancedAccuracy(),
        SENSITIVITY: Sensitivity(),
        SPECIFICITY: Specificity(),
        LOSS: MeanCrossEntropy(),
    }
