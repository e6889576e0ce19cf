"""How long to train, found on people that were left out: folds of participants, one after another.

Every fold trains on the others and stops by the ELBO of its own people. The mean of the steps at
which the folds were best is how long everyone's training then takes; nobody is lost to it. Of k
folds each sees (k - 1)/k of the images, so that all costs at most k trainings.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.config.label_settings import UNLABELLED
from neuroaug.errors import InputError
from neuroaug.system.files import read_json, sha256_json, write_json, write_tsv
from neuroaug.training import random_order
from neuroaug.training.folds.fold_curves import COLUMNS, FILE_NAME
from neuroaug.training.launch import launch
from neuroaug.training.process import TrainingTask, train_in_process

if TYPE_CHECKING:
    from neuroaug.system.devices import Devices
    from neuroaug.training.state import TrainingPlan

FOLDS = "folds"


@dataclass(frozen=True)
class FoldResult:
    """What one fold found.

    Attributes
    ----------
    best_steps : int
        Optimiser steps at which the ELBO of the people left out was best.
    best : float
        That ELBO, nats per image.
    curve : tuple of (int, int, float)
        Epoch, steps and ELBO, where it was measured.
    """

    best_steps: int
    best: float
    curve: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class CrossValidation:
    """What all folds found, and the epochs that a training on everyone takes."""

    folds: tuple[FoldResult, ...]
    epochs: int

    def table(self) -> pd.DataFrame:
        """Rows of ``folds.tsv``, the curve of every fold."""
        rows = [(k, *point) for k, found in enumerate(self.folds, start=1) for point in found.curve]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def record(self) -> dict[str, Any]:
        """What the model keeps of it."""
        return {
            "fold_steps": [found.best_steps for found in self.folds],
            "held_out_elbo": float(np.mean([found.best for found in self.folds])),
        }


def require_folds(lineage: pd.DataFrame, n_folds: int) -> None:
    """Refuse a label with fewer participants than folds.

    Raises
    ------
    InputError
        Naming it.
    """
    for name, people in lineage.groupby("diagnosis"):
        n = people["participant_id"].nunique()
        if n < n_folds and name != UNLABELLED:
            raise InputError(
                f"label '{name}': {n} training participants for {n_folds} folds; lower "
                "generator.folds, or give another stopping"
            )


def folds_of(seed: int, lineage: pd.DataFrame, n_folds: int) -> NDArray[np.intp]:
    """Fold of each image of a lineage; see `neuroaug.training.random_order.folds`."""
    participants, diagnoses = (
        lineage[name].astype(str).tolist() for name in ("participant_id", "diagnosis")
    )
    return random_order.folds(seed, participants, diagnoses, n_folds)


def cross_validate(
    task: TrainingTask, n_folds: int, precision: str, max_seconds: float | None
) -> CrossValidation:
    """Find how long to train, or go on where an earlier call was stopped.

    Parameters
    ----------
    task : TrainingTask
        The training on everyone; its folds are trained with the same seed and settings.
    n_folds : int
        How many.
    precision : str
        Of the networks.
    max_seconds : float or None
        Time of a fold.
    """
    plan, people = task.plan, task.lineage
    fold_of = folds_of(plan.seed, people, n_folds)
    root = plan.checkpoints.parent / FOLDS
    results = []
    for k in range(n_folds):
        folder = root / f"fold-{k + 1}"
        fold = replace(
            plan,
            fitted=np.flatnonzero(fold_of != k),
            evaluated=np.flatnonzero(fold_of == k),
            identity=sha256_json([plan.identity, "fold", k]),
            checkpoints=folder / "checkpoints",
            max_seconds=max_seconds,
            to_the_end=False,
        )
        results.append(_fold(task, fold, k, n_folds, folder, task.devices, precision))
    steps = float(np.mean([found.best_steps for found in results]))
    epochs = max(1, round(steps / _steps_an_epoch(plan.batch_size, task, len(people))))
    return CrossValidation(tuple(results), epochs)


def _fold(
    task: TrainingTask,
    plan: TrainingPlan,
    k: int,
    n_folds: int,
    folder: Path,
    devices: Devices,
    precision: str,
) -> FoldResult:
    done = folder / "result.json"
    if not _is_of(done, plan.identity):
        part = f", fold {k + 1} of {n_folds}"
        fold = replace(task, plan=plan, out=folder, tune=False, part=part)
        launch(_train_fold, fold, devices, folder, precision)
    content = read_json(done)
    curve = tuple((int(e), int(s), float(v)) for e, s, v in content["curve"])
    return FoldResult(int(content["best_steps"]), float(content["best"]), curve)


def _is_of(path: Path, identity: str) -> bool:
    return path.is_file() and read_json(path).get("identity") == identity


def _train_fold(fabric: Any, task: TrainingTask) -> None:
    """Train a fold, and write what its people said; its weights are not kept."""
    _, outcome = train_in_process(fabric, task)
    if fabric.global_rank != 0:
        return
    plan = task.plan
    an_epoch = _steps_an_epoch(plan.batch_size, task, len(plan.fitted))
    curve = [
        (int(row["epoch"]), int(row["epoch"]) * an_epoch, _held_out(row)) for row in outcome.history
    ]
    write_json(
        task.out / "result.json",
        {
            "identity": plan.identity,
            "best_steps": outcome.best_epoch * an_epoch,
            "best": outcome.elbo,
            "curve": curve,
        },
    )
    shutil.rmtree(plan.checkpoints, ignore_errors=True)


def _held_out(row: dict[str, float]) -> float:
    return row["elbo"] if "elbo" in row else -row["criterion"]


def _steps_an_epoch(batch_size: int, task: TrainingTask, n_images: int) -> int:
    n_batches = -(-n_images // batch_size)
    return -(-n_batches // task.plan.config.accumulate)


def keep_curve(found: CrossValidation, out: Path) -> None:
    """Write ``folds.tsv`` beside a model."""
    write_tsv(out / FILE_NAME, found.table())


def remove_folds(out: Path) -> None:
    """Remove what folds left for an interrupted call."""
    shutil.rmtree(out / FOLDS, ignore_errors=True)
