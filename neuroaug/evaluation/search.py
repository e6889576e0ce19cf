"""Random search of the classifier (TPAMI 5.5.1): 100 draws, 5-fold cross-validation on the training
set.

Draw i is a function of (seed, i) alone, drawn by Optuna from `SPACE`, and every fold of every draw
is one small file. So a search that was killed goes on where it was, several processes (or Slurm
jobs) may work on one folder at the same time, and none of this changes what is found.

A search's folder
-----------------
``draws/draw-<i>/fold-<j>.json``   validation balanced accuracy of one training; 0, and why, where it diverged
                                   or the network does not fit into the GPU
``draws.tsv``                      one row a draw
``optuna.journal``                 the same as an Optuna study, for its plots
``lineage.tsv``                    whom the network was chosen on, where the caller says so
``best.json``                      the network that cells named ``optimised`` use, written last
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroaug.cohort.lineage import write_lineage
from neuroaug.config import OPTIMISED, ClassifierSpec, EvaluationConfig, SearchConfig
from neuroaug.errors import DivergenceError, InputError
from neuroaug.evaluation.cell_images import Images, ImageStore
from neuroaug.system.devices import find_devices
from neuroaug.system.files import atomic_path, read_json, write_json, write_tsv
from neuroaug.system.progress import progress
from neuroaug.system.randomness import CLASSIFIER

if TYPE_CHECKING:
    import optuna

    from neuroaug.evaluation.clinicadl import LabelledFolder

BEST, DRAWS_TABLE, JOURNAL = "best.json", "draws.tsv", "optuna.journal"


def space() -> dict[str, optuna.distributions.BaseDistribution]:
    """The search space. The papers name its dimensions, not their ranges; these are ours.

    Filters double from block to block. A weight decay below 1e-5 stands for none.
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
    """Draw `i` (from 0) of a search: the same whoever asks, and in whatever order."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=CLASSIFIER.seed(seed, "draw", i))
    values = optuna.create_study(sampler=sampler).ask(space()).params
    if values["weight_decay"] < 1e-5:
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
                f"label {label}: {len(positions)} training participants for {n_folds} folds; use fewer folds"
            )
        shuffled = np.random.default_rng(CLASSIFIER.seed(seed, "folds", label)).permutation(
            positions
        )
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
    labels: Sequence[str] = ("CN", "AD"),
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
        Folder of the search; a finished draw in it is not done again.
    config : SearchConfig
        Draws, folds, epochs, seed.
    evaluation : EvaluationConfig
        Batch size, scaling, storage and precision, as of the runs to come.
    resolution : {"1mm", "2mm", "4mm"}
        Which images.
    labels : sequence of str
        Diagnoses.
    device : {"auto", "cpu", "cuda"}
        Where to train.
    n_threads : int, optional
        CPU threads.
    cache_folder : Path, optional
        Where memory-mapped images are kept; ``cache`` in `out` by default.
    lineage : DataFrame, optional
        The training participants (`neuroaug.cohort.lineage.LINEAGE_COLUMNS`), kept beside the
        result as the proof of whom it was chosen on.

    Returns
    -------
    Path
        ``<out>/best.json``, a `ClassifierSpec`: the draw with the highest mean balanced accuracy
        over the folds, the earliest of equals.
    """
    from filelock import FileLock, Timeout

    from neuroaug.evaluation.clinicadl import _threads

    out = Path(out)
    store = ImageStore(
        cache_folder or out / "cache", resolution, evaluation.scaling, evaluation.storage
    )
    images = store.real(train.caps, train.table, labels, "the training set")
    parts = folds(list(images.table["diagnosis"]), config.folds, config.seed)
    inputs = _inputs(images, config, evaluation)
    specs = [draw(config.seed, i) for i in range(config.draws)]
    if not _complete(
        out, config, inputs
    ):  # what an earlier search of other images or fewer draws found
        (out / BEST).unlink(missing_ok=True)
    with (
        _threads(n_threads),
        progress(config.draws * config.folds, "search", "trainings") as tracker,
    ):
        for patience in (0.0, -1.0):  # what nobody works on; then wait for what others work on
            for i, spec in enumerate(specs):
                folder = out / "draws" / f"draw-{i:03d}"
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    with FileLock(folder / ".lock", timeout=patience):
                        _work_off(
                            folder, spec, images, parts, config, evaluation, inputs, device, i
                        )
                except Timeout:
                    continue
                tracker.done = max(tracker.done, min((i + 1) * config.folds, tracker.total) - 1)
                tracker.advance(draw=i)
    with FileLock(out / ".lock"):  # processes that share a search end together
        return _collect(out, specs, config, inputs, lineage)


def _fold(out: Path, i: int, j: int) -> Path:
    return out / "draws" / f"draw-{i:03d}" / f"fold-{j}.json"


def _complete(out: Path, config: SearchConfig, inputs: str) -> bool:
    places = [(i, j) for i in range(config.draws) for j in range(config.folds)]
    return all(_value(_fold(out, i, j), inputs) is not None for i, j in places)


def _work_off(
    folder: Path,
    spec: ClassifierSpec,
    images: Images,
    parts: list[np.ndarray],
    config: SearchConfig,
    evaluation: EvaluationConfig,
    inputs: str,
    device: str,
    i: int,
) -> None:
    for j, part in enumerate(parts):
        path = folder / f"fold-{j}.json"
        if _value(path, inputs) is not None:
            continue
        rest = np.setdiff1d(np.arange(len(images)), part)
        result = _train(
            images.take(rest), images.take(part), spec, config, evaluation, CLASSIFIER.seed(config.seed, "fold", i, j),
            device=device, folder=folder, inputs=f"{inputs}-{i}-{j}", title=f"draw {i} fold {j}",
        )  # fmt: skip
        write_json(path, {"inputs": inputs, **result})


def _train(
    train: Images,
    validation: Images,
    spec: ClassifierSpec,
    config: SearchConfig,
    evaluation: EvaluationConfig,
    seed: int,
    *,
    device: str,
    folder: Path,
    inputs: str,
    title: str,
) -> dict[str, Any]:
    from neuroaug.evaluation import classifier_training

    where = find_devices(device).first
    settings = classifier_training.ClassifierSettings(
        network=OPTIMISED,
        spec=spec,
        epochs=config.epochs,
        batch_size=evaluation.batch_size,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        seed=seed,
        n_items=None,
        classical=False,
        device=where,
        bf16=classifier_training.uses_bf16(evaluation, where),
        checkpoint_every_s=evaluation.checkpoint_every_s,
    )
    checkpoint = folder / "checkpoint.safetensors"
    try:
        fitted = classifier_training.fit(
            train,
            validation,
            settings,
            maps=folder / "maps",
            checkpoint=checkpoint,
            inputs=inputs,
            title=title,
        )
        return {"balanced_accuracy": fitted.run.best_value, "best_epoch": fitted.run.best_epoch}
    except (DivergenceError, classifier_training.TooLargeError) as error:
        return {"balanced_accuracy": 0.0, "best_epoch": 0, "failure": str(error)}
    finally:
        shutil.rmtree(folder / "maps", ignore_errors=True)
        checkpoint.unlink(missing_ok=True)


def _value(path: Path, inputs: str) -> float | None:
    """Balanced accuracy of a finished fold of these inputs."""
    if not path.is_file():
        return None
    record = read_json(path)
    return float(record["balanced_accuracy"]) if record.get("inputs") == inputs else None


def _inputs(images: Images, config: SearchConfig, evaluation: EvaluationConfig) -> str:
    """Checksum of what a fold's result depends on beside its draw; more draws may be asked for
    later.
    """
    content = {
        "images": images.sha256(),
        "search": config.model_dump(mode="json", exclude={"draws", "jobs"}),
        "evaluation": evaluation.model_dump(
            mode="json", include={"batch_size", "scaling", "storage", "precision"}
        ),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _collect(
    out: Path,
    specs: list[ClassifierSpec],
    config: SearchConfig,
    inputs: str,
    lineage: pd.DataFrame | None,
) -> Path:
    rows = []
    for i, spec in enumerate(specs):
        places = [_fold(out, i, j) for j in range(config.folds)]
        values = [_value(path, inputs) for path in places]
        known = [value for value in values if value is not None]
        if len(known) < config.folds:
            raise InputError(
                f"{out}: draw {i} has {len(known)} of {config.folds} folds; start the search again"
            )
        rows.append(
            {
                "draw": i,
                **spec.model_dump(),
                "balanced_accuracy_mean": float(np.mean(known)),
                "balanced_accuracy_std": float(np.std(known, ddof=1)),
                **{f"fold_{j}": value for j, value in enumerate(known)},
                "failure": next(
                    (why for path in places if (why := read_json(path).get("failure"))), None
                ),
            }
        )
    table = pd.DataFrame(rows)
    write_tsv(out / DRAWS_TABLE, table)
    _write_journal(out / JOURNAL, specs, list(table["balanced_accuracy_mean"]))
    if lineage is not None:
        write_lineage(out, lineage)
    best = int(np.argmax(table["balanced_accuracy_mean"]))
    write_json(out / BEST, specs[best].model_dump(mode="json"))
    return out / BEST


def _write_journal(path: Path, specs: list[ClassifierSpec], values: list[float]) -> None:
    """Write the draws as an Optuna study named ``classifier``."""
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
