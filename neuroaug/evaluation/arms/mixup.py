"""Mixup: images and labels of a batch, mixed in pairs (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neuroaug.system.randomness import CLASSIFIER

ALPHA = 0.2
"""Of the Beta distribution of the share: mostly one image, with a little of another."""


class Mixup:
    """Mixes each image of a batch with another one of it, whatever their labels.

    Parameters
    ----------
    seed : int
        The run's seed; what is mixed is a function of (seed, epoch, place of the batch) alone.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, batch: Sequence[Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix images (B, 1, X, Y, Z) and their probabilities of the positive class (B,)."""
        first = batch[0]
        rng = CLASSIFIER.numpy(self.seed, "mixup", first["epoch"], first["place"])
        share = float(rng.beta(ALPHA, ALPHA))
        other = torch.from_numpy(rng.permutation(len(images))).to(images.device)
        mixed = share * images + (1 - share) * images[other]
        return mixed, share * targets + (1 - share) * targets[other.to(targets.device)]
