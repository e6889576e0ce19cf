"""Random search of the classifier, by cross-validation on the training set (TPAMI sec. 5.5.1).

Trial i is a function of (seed, i) alone, drawn by Optuna from `space`, and every fold of every
trial is one small file. So a search that was killed goes on where it was, several processes (or
Slurm jobs) may work on one folder at the same time, and none of this changes what is found.

A search's folder
-----------------
``draws/draw-<i>/fold-<j>.json``   validation balanced accuracy of one training; 0, and why, where
                                   it diverged or the network does not fit into the GPU
``draws.tsv``                      one row per trial
``optuna.journal``                 the same as an Optuna study, for its plots
``lineage.tsv``                    whom the network was chosen on, where the caller says so
``best.json``                      the network that cells named ``optimised`` use, written last
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroaug.cohort.lineage import write_lineage
from neuroaug.config import (
    OPTIMISED,
    PUBLISHED_LABELS,
    ClassifierSpec,
    EvaluationConfig,
    SearchConfig,
)
from neuroaug.errors import DivergenceError, InputError
from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.image_store import ImageStore
from neuroaug.evaluation.runs import ClassifierSettings, LabelledFolder
from neuroaug.system.devices import find_devices
from neuroaug.system.files import atomic_path, read_json, sha256_json, write_json, write_tsv
from neuroaug.system.locks import Claim, exclusive
from neuroaug.system.progress import Progress, progress
from neuroaug.system.randomness import CLASSIFIER

if TYPE_CHECKING:
    import optuna
    import torch

BEST, DRAWS_TABLE, JOURNAL = "best.json", "draws.tsv", "optuna.journal"
NO_DECAY_BELOW = 1e-5  # of the logarithmic range of weight decays


def space() -> dict[str, optuna.distributions.BaseDistribution]:
    """The search space. The papers name its dimensions, not their ranges; these are ours.

    Filters double from block to block. A weight decay below `NO_DECAY_BELOW` stands for none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        "n_blocks": IntDistribution(2, 6),
        "first_filters": CategoricalDistribution((4, 8, 16, 32)),
        "convolutions_per_block": IntDistribution(1, 3),
        "n_fully_connected": IntDistribution(1, 4),
        "dropout": FloatDistribution(0.0, 0.9),
        "learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
    }


def draw(seed: int, i: int) -> ClassifierSpec:
    """Draw the network of trial `i` (from 0): the same in whatever order, and in any process."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=CLASSIFIER.seed(seed, "draw", i))
    values = optuna.create_study(sampler=sampler).ask(space()).params
    if values["weight_decay"] < NO_DECAY_BELOW:
        values["weight_decay"] = 0.0
    return ClassifierSpec(**values)


def folds(labels: Sequence[str], n_folds: int, seed: int) -> list[np.ndarray]:
    """Positions of each fold: every label dealt out evenly, in an order fixed by the seed.

    Raises
    ------
    InputError
        If a label has fewer images than there are folds.
    """
    parts: list[list[int]] = [[] for _ in range(n_folds)]
    kinds = np.asarray(labels)
    start = 0
    for label in sorted(set(labels)):
        positions = np.flatnonzero(kinds == label)
        if len(positions) < n_folds:
            raise InputError(
                f"label {label}: {len(positions)} training participants for {n_folds} folds; "
                "use fewer folds"
            )
        shuffled = CLASSIFIER.numpy(seed, "folds", label).permutation(positions)
        for number, position in enumerate(shuffled):
            parts[(start + number) % n_folds].append(int(position))
        start += len(positions)  # the next label's extra images go to other folds
    return [np.sort(part) for part in parts]


def search(
    train: LabelledFolder,
    *,
    out: Path,
    config: SearchConfig,
    evaluation: EvaluationConfig,
    resolution: str,
    classes: tuple[str, str] = PUBLISHED_LABELS,
    device: str = "auto",
    n_threads: int | None = None,
    cache_folder: Path | None = None,
    lineage: pd.DataFrame | None = None,
) -> Path:
    """Search the classifier on the training set.

    Parameters
    ----------
    train : LabelledFolder
        The training participants (no validation or test participant).
    out : Path
        Folder of the search; a finished trial in it is not done again.
    config : SearchConfig
        Numbers of trials, folds and epochs, and the seed.
    evaluation : EvaluationConfig
        Batch size, scaling, storage and precision, as of the runs to come.
    resolution : {"1mm", "2mm", "4mm"}
        Resolution of the images.
    classes : (str, str)
        Negative and positive class.
    device : str
        Device that trains, as `find_devices` reads it.
    n_threads : int, optional
        CPU threads.
    cache_folder : Path, optional
        Folder of the memory-mapped images; ``cache`` in `out` by default.
    lineage : DataFrame, optional
        The training participants (`neuroaug.cohort.lineage.LINEAGE_COLUMNS`), kept beside the
        result as the proof of whom it was chosen on.

    Returns
    -------
    Path
        ``<out>/best.json``, a `ClassifierSpec`: the trial with the highest mean balanced accuracy
        over the folds, the earliest of equals.

    Raises
    ------
    InputError
        A label has fewer participants than there are folds, or an image is missing.
    ResourceError
        No such device.
    """
    where = find_devices(device).first
    out = Path(out)
    store = ImageStore(
        cache_folder or out / "cache", resolution, evaluation.scaling, evaluation.storage
    )
    images = store.real(train.caps, train.table, classes, "the training set")
    # What a fold's result depends on beside its trial; more trials may be asked for later.
    inputs = sha256_json(
        {
            "images": images.sha256(),
            "search": config.model_dump(mode="json", exclude={"draws", "jobs"}),
            "evaluation": evaluation.model_dump(
                mode="json", include={"batch_size", "scaling", "storage", "precision"}
            ),
        }
    )
    trials = _Trials(
        out,
        images,
        folds(list(images.table["diagnosis"]), config.folds, config.seed),
        [draw(config.seed, i) for i in range(config.draws)],
        config,
        evaluation,
        inputs,
        where,
        n_threads,
    )
    if not trials.complete():  # what an earlier search of other images or fewer trials found
        (out / BEST).unlink(missing_ok=True)
    with progress(config.draws * config.folds, "search", "trainings") as tracker:
        trials.work_off(tracker)
    with exclusive(out / ".lock"):  # processes that share a search end together
        return trials.collect(lineage)


@dataclass(frozen=True, eq=False)
class _Trials:
    """The trials of a search and the folder in which processes share them."""

    out: Path
    images: Images
    parts: list[np.ndarray]
    specs: list[ClassifierSpec]
    config: SearchConfig
    evaluation: EvaluationConfig
    inputs: str
    device: torch.device
    n_threads: int | None

    def folder(self, i: int) -> Path:
        return self.out / "draws" / f"draw-{i:03d}"

    def fold_files(self, i: int) -> list[Path]:
        return [self.folder(i) / f"fold-{j}.json" for j in range(len(self.parts))]

    def value(self, path: Path) -> float | None:
        """Balanced accuracy of a finished fold of these inputs."""
        if not path.is_file():
            return None
        record = read_json(path)
        return float(record["balanced_accuracy"]) if record.get("inputs") == self.inputs else None

    def complete(self) -> bool:
        files = (path for i in range(len(self.specs)) for path in self.fold_files(i))
        return all(self.value(path) is not None for path in files)

    def work_off(self, tracker: Progress) -> None:
        """Do the trials that nobody works on, until none is left; others' are waited for."""
        waiting = list(range(len(self.specs)))
        while waiting:
            busy = []
            for i in waiting:
                claim = Claim.take(self.folder(i) / ".lock")
                if claim is None:
                    busy.append(i)
                    continue
                with claim:
                    self.train_folds(i)
                tracker.advance(len(self.parts), trial=i)
            if busy == waiting:
                time.sleep(1)
            waiting = busy

    def train_folds(self, i: int) -> None:
        for j, path in enumerate(self.fold_files(i)):
            if self.value(path) is None:
                write_json(path, {"inputs": self.inputs, **self.train(i, j)})

    def train(self, i: int, j: int) -> dict[str, Any]:
        """Result of one training."""
        from neuroaug.evaluation.clinicadl import classifier_training

        part = self.parts[j]
        rest = np.setdiff1d(np.arange(len(self.images)), part)
        settings = ClassifierSettings.of(
            self.evaluation,
            network=OPTIMISED,
            spec=self.specs[i],
            epochs=self.config.epochs,
            seed=CLASSIFIER.seed(self.config.seed, "fold", i, j),
            device=self.device,
            n_threads=self.n_threads,
        )
        maps, checkpoint = self.folder(i) / "maps", self.folder(i) / "checkpoint.safetensors"
        try:
            run = classifier_training.fit(
                self.images.take(rest),
                self.images.take(part),
                settings,
                maps=maps,
                checkpoint=checkpoint,
                inputs=f"{self.inputs}-{i}-{j}",
                title=f"trial {i} fold {j}",
            ).run
            return {"balanced_accuracy": run.best_value, "best_epoch": run.best_epoch}
        except (DivergenceError, classifier_training.TooLargeError) as error:
            return {"balanced_accuracy": 0.0, "best_epoch": 0, "failure": str(error)}
        finally:
            shutil.rmtree(maps, ignore_errors=True)
            checkpoint.unlink(missing_ok=True)

    def collect(self, lineage: pd.DataFrame | None) -> Path:
        """Write the tables and the best network."""
        table = pd.DataFrame([self.row(i) for i in range(len(self.specs))])
        write_tsv(self.out / DRAWS_TABLE, table)
        _write_journal(self.out / JOURNAL, self.specs, list(table["balanced_accuracy_mean"]))
        if lineage is not None:
            write_lineage(self.out, lineage)
        best = self.specs[int(np.argmax(table["balanced_accuracy_mean"]))]
        write_json(self.out / BEST, best.model_dump(mode="json"))
        return self.out / BEST

    def row(self, i: int) -> dict[str, Any]:
        files = self.fold_files(i)
        known = [value for path in files if (value := self.value(path)) is not None]
        if len(known) < len(files):
            raise InputError(
                f"{self.out}: trial {i} has {len(known)} of {len(files)} folds; "
                "start the search again"
            )
        return {
            "draw": i,
            **self.specs[i].model_dump(),
            "balanced_accuracy_mean": float(np.mean(known)),
            "balanced_accuracy_std": float(np.std(known, ddof=1)),
            **{f"fold_{j}": value for j, value in enumerate(known)},
            "failure": next(
                (why for path in files if (why := read_json(path).get("failure"))), None
            ),
        }


def _write_journal(path: Path, specs: list[ClassifierSpec], values: list[float]) -> None:
    """Write the trials as an Optuna study named ``classifier``."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = space()
    with atomic_path(path) as temporary:
        temporary.unlink(missing_ok=True)  # what a killed process of the same number left
        storage = JournalStorage(JournalFileBackend(str(temporary)))
        study = optuna.create_study(study_name="classifier", storage=storage, direction="maximize")
        for spec, value in zip(specs, values, strict=True):
            params = spec.model_dump()
            params["weight_decay"] = max(params["weight_decay"], 1e-6)
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=known, value=value)
            )
