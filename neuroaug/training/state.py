"""A training run as values: what was asked, where it stands between two steps, how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neuroaug.config import FamilySettings
from neuroaug.registries import NETWORKS
from neuroaug.training.random_order import Rows

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "elbo",
    "criterion",
    "reconstruction",
    "metric_contrast",
    "gradient_norm",
    "step_halvings",
    "images_per_s",
    "seconds",
)
"""Columns of ``history.csv`` in their order: ``elbo`` of families that have a bound, ``criterion``
of others; what a family adds comes last."""

TIMING_COLUMNS = ("images_per_s", "seconds")


@dataclass(frozen=True)
class TrainingPlan:
    """What a run is asked to do; the same on every process.

    Attributes
    ----------
    config : FamilySettings
        Settings, with a learning rate.
    seed : int
        Of weights, order and noise.
    batch_size : int
        Images whose metric a step uses, over all processes.
    fitted, evaluated : arrays of int
        Rows learned from; rows whose ELBO decides when to stop.
    identity : str
        Hash of everything that makes this run what it is; a checkpoint of another one is not
        continued.
    checkpoints : Path
        Their folder.
    checkpoint_seconds : float
        Least time between two checkpoints.
    max_seconds : float or None
        Training time after which the best so far is taken.
    to_the_end : bool
        Train all epochs and keep the last weights, whatever the ELBO.
    """

    config: FamilySettings
    seed: int
    batch_size: int
    fitted: Rows
    evaluated: Rows
    identity: str
    checkpoints: Path
    checkpoint_seconds: float = 30.0
    max_seconds: float | None = None
    to_the_end: bool = False

    @property
    def clips_gradients(self) -> bool:
        """Whether long gradients are shortened; the published networks are trained as published."""
        clips: bool = NETWORKS.get(self.config.network).clips_gradients
        return clips


@dataclass(frozen=True)
class Sums:
    """Running sums over the images seen since the last row of the history."""

    images: float = 0.0
    loss: float = 0.0
    reconstruction: float = 0.0
    halvings: float = 0.0
    norm: float = 0.0
    steps: float = 0.0
    seconds: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Add up two sums."""
        mine, theirs = asdict(self), asdict(other)
        return Sums(**{name: mine[name] + theirs[name] for name in mine})

    def row(self, judged: dict[str, float], diagnostics: dict[str, float]) -> dict[str, float]:
        """Give them as means, in the order of ``history.csv``."""
        return {
            "loss": self.loss / self.images,
            **judged,
            "reconstruction": self.reconstruction / self.images,
            **diagnostics,
            "gradient_norm": self.norm / self.steps,
            "step_halvings": self.halvings,
            "images_per_s": round(self.images / max(self.seconds, 1e-9), 3),
        }


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands between two optimiser steps.

    Attributes
    ----------
    epoch : int
        Epochs completed.
    step : int
        Micro-batches of the next epoch that are done.
    optimiser_steps : int
        In all.
    sums : Sums
        Since the last row of the history.
    typical_norm : float
        Running typical length of the gradient.
    first_loss : float or None
        Mean loss of the first epoch.
    history : tuple of dict
        Rows of ``history.csv``.
    seconds : float
        Time trained, over all starts.
    retreats : int
        Times that training diverged and went back to its best weights.
    """

    epoch: int = 0
    step: int = 0
    optimiser_steps: int = 0
    sums: Sums = field(default_factory=Sums)
    typical_norm: float = 0.0
    first_loss: float | None = None
    history: tuple[dict[str, float], ...] = ()
    seconds: float = 0.0
    retreats: int = 0

    def state(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {**asdict(self), "history": list(self.history)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingState:
        """Read what `state` gave."""
        return cls(**{**state, "sums": Sums(**state["sums"]), "history": tuple(state["history"])})


@dataclass(frozen=True)
class TrainingResult:
    """How training ended."""

    reason: str
    epochs: int
    best_epoch: int
    elbo: float
    seconds: float
    history: tuple[dict[str, float], ...]
    retreats: int = 0
