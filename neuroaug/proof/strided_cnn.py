"""The study's CNN: three strided layers, the same number of steps in every arm.

Small enough that thousands can be trained on two cores, and no worse than larger ones on so few
people. It learns from images with a probability of the positive class each, hard labels being 0
and 1; the step of best AUC on validation people is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroaug.evaluation.arms.mixup import ALPHA
from neuroaug.statistics.scores import auc
from neuroaug.system.randomness import KEYED

Values = NDArray[np.float64]
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""From a batch of images (B, 1, X, Y, Z) to augmented ones."""


@dataclass(frozen=True)
class Examples:
    """Images and their probabilities of the positive class.

    Attributes
    ----------
    images : Tensor, shape (N, 1, X, Y, Z)
        In [0, 1].
    targets : Tensor, shape (N,)
        In [0, 1].
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def and_also(self, other: Examples) -> Examples:
        """Both, one after the other."""
        return Examples(
            torch.cat([self.images, other.images]), torch.cat([self.targets, other.targets])
        )


@dataclass(frozen=True)
class CnnSettings:
    """How a CNN is trained; all arms of a comparison share steps and the rates tried."""

    steps: int = 300
    batch_size: int = 16
    validate_every: int = 20
    learning_rates: tuple[float, ...] = (1e-3, 3e-4)
    weight_decay: float = 1e-3
    width: int = 8
    dropout: float = 0.5


class StridedCnn(nn.Module):
    """Three strided convolutions, each doubling the channels, and one linear layer."""

    def __init__(self, shape: tuple[int, ...], width: int, dropout: float) -> None:
        super().__init__()
        flat = shape[2] == 1
        layers: list[nn.Module] = []
        n_in = 1
        for k in range(3):
            n_out = width * 2**k
            kernel, stride, padding = ((3, 3, 1), (2, 2, 1), (1, 1, 0)) if flat else (3, 2, 1)
            layers += [
                nn.Conv3d(n_in, n_out, kernel, stride, padding),
                nn.GroupNorm(1, n_out),
                nn.ReLU(),
            ]
            n_in = n_out
        self.features = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            n_features = self.features(torch.zeros(1, 1, *shape)).shape[1]
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds of the positive class, (B,)."""
        return self.head(self.features(x))[:, 0]


@dataclass(frozen=True)
class TrainedCnn:
    """A network at its best step, and the AUC on validation people that chose it."""

    network: StridedCnn
    validation_auc: float

    @torch.no_grad()
    def log_odds(self, images: Tensor) -> Values:
        """Log-odds of the positive class, (N,)."""
        self.network.eval()
        parts = [self.network(part) for part in images.split(64)]
        return torch.cat(parts).double().numpy()


def train_cnn(
    train: Examples,
    validation: Examples,
    settings: CnnSettings,
    seed: int,
    *,
    augment: Augment | None = None,
    mixup: bool = False,
    start: StridedCnn | None = None,
) -> TrainedCnn:
    """Train with every rate, and keep the one that validation people prefer.

    Parameters
    ----------
    train, validation : Examples
        Images to learn from; images of validation people, hard labels.
    settings : CnnSettings
        Settings.
    seed : int
        Of weights, order, dropout, augmentation.
    augment : callable, optional
        Applied to every batch.
    mixup : bool
        Mix images of a batch in pairs.
    start : StridedCnn, optional
        Weights to begin from.
    """
    found = [
        _train(train, validation, settings, rate, seed, augment, mixup, start)
        for rate in settings.learning_rates
    ]
    return max(found, key=lambda one: one.validation_auc)


def _train(
    train: Examples,
    validation: Examples,
    settings: CnnSettings,
    rate: float,
    seed: int,
    augment: Augment | None,
    mixup: bool,
    start: StridedCnn | None,
) -> TrainedCnn:
    shape = tuple(train.images.shape[2:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(KEYED.seed(seed, "weights"))
        network = StridedCnn(shape, settings.width, settings.dropout)
        if start is not None:
            network.load_state_dict(start.state_dict())
        optimizer = torch.optim.Adam(
            network.parameters(), lr=rate, weight_decay=settings.weight_decay
        )
        generator = torch.Generator().manual_seed(KEYED.seed(seed, "order"))
        truth = validation.targets.numpy() > 0.5
        best, kept = -1.0, None
        order = torch.empty(0, dtype=torch.long)
        loss_of = nn.BCEWithLogitsLoss()
        for step in range(1, settings.steps + 1):
            if len(order) < settings.batch_size:
                more = torch.randperm(len(train), generator=generator)
                order = torch.cat([order, more])
            rows, order = order[: settings.batch_size], order[settings.batch_size :]
            images, targets = train.images[rows], train.targets[rows]
            if augment is not None:
                images = augment(images, generator)
            if mixup:
                images, targets = _mixed(images, targets, generator)
            network.train()
            optimizer.zero_grad(set_to_none=True)
            loss_of(network(images), targets).backward()
            optimizer.step()
            if step % settings.validate_every == 0:
                scores = TrainedCnn(network, 0.0).log_odds(validation.images)
                found = auc(scores[truth], scores[~truth])
                if found > best:  # of equals, the earliest
                    best, kept = found, {k: v.clone() for k, v in network.state_dict().items()}
        assert kept is not None, "steps >= validate_every"
        network.load_state_dict(kept)
    return TrainedCnn(network.eval(), best)


def _mixed(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup, as of the product's cells."""
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    share = float(rng.beta(ALPHA, ALPHA))
    other = torch.randperm(len(images), generator=generator)
    return (
        share * images + (1 - share) * images[other],
        share * targets + (1 - share) * targets[other],
    )
