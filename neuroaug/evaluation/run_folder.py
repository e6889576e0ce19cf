"""A run's folder: what a finished run leaves, and how one sees that it is finished.

``scores.tsv``             `neuroaug.statistics.columns.SCORE_COLUMNS`; score = P(positive class)
``validation-scores.tsv``  the same for the validation set, at the epoch that was kept
``history.tsv``            one row per epoch: training loss; validation loss and measures
``maps/``                  ClinicaDL's MAPS, of whose weights only the best epoch's are kept
``run.json``               the completion record, written last: seeds, counts, versions, checksums
``checkpoint.safetensors`` only while the run is not finished
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neuroaug.evaluation.runs import CellImages, Fitted, Run
from neuroaug.statistics.cell_scores import VALIDATION
from neuroaug.statistics.columns import SCORE_COLUMNS
from neuroaug.system.files import read_json, sha256_file, write_json, write_tsv
from neuroaug.system.provenance import versions

FORMAT_VERSION = 1
CHECKPOINT = "checkpoint.safetensors"
SCORES, VALIDATION_SCORES = "scores.tsv", "validation-scores.tsv"
HISTORY, RECORD, MAPS = "history.tsv", "run.json", "maps"


def is_complete(out: Path, inputs: str | None = None) -> bool:
    """Whether a folder holds a finished run (of these inputs, where given), as the run wrote it."""
    if not (out / RECORD).is_file():
        return False
    record = read_json(out / RECORD)
    if inputs is not None and record.get("inputs") != inputs:
        return False
    return intact(out, record, (SCORES, VALIDATION_SCORES, HISTORY))


def intact(out: Path, record: dict[str, Any], names: Sequence[str]) -> bool:
    """Whether files of a run are there, and as the run wrote them."""
    files = record.get("files", {})
    return all(
        name in files and (out / name).is_file() and sha256_file(out / name) == files[name]
        for name in names
    )


def trained(out: Path, training_inputs: str) -> dict[str, Any] | None:
    """The record of a run whose training is done and whole, whatever it was tested on."""
    if not (out / RECORD).is_file():
        return None
    record: dict[str, Any] = read_json(out / RECORD)
    if record.get("training_inputs") != training_inputs:
        return None
    names = [name for name in record["files"] if name != SCORES]
    return record if intact(out, record, names) else None  # history, validation scores, weights


def clear(out: Path) -> None:
    """Remove what an interrupted or outdated run left, except its checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, SCORES, VALIDATION_SCORES, HISTORY):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / MAPS, ignore_errors=True)


def write(
    run: Run, images: CellImages, fitted: Fitted, seconds: float, keys: dict[str, str]
) -> None:
    """Write everything that a run leaves beside its MAPS, the completion record last.

    Parameters
    ----------
    run : Run
        The run that ended.
    images : CellImages
        Images that it was trained and tested on.
    fitted : Fitted
        Result of the training.
    seconds : float
        Time that training and tests took.
    keys : dict of str to str
        ``inputs`` and ``training_inputs``: checksums of what the run depends on.
    """
    write_tsv(run.out / VALIDATION_SCORES, _score_table({VALIDATION: fitted.run.best_scores}))
    write_tsv(run.out / HISTORY, pd.DataFrame(fitted.run.history))
    real = images.train.take((~images.train.synthetic).nonzero()[0])
    record = {
        "format_version": FORMAT_VERSION,
        "cell": run.cell.name,
        "k": run.k,
        **keys,
        "seed": run.seed,
        "config": run.config.model_dump(mode="json"),
        "spec": run.spec.model_dump(mode="json") if run.spec else None,
        "n_real_per_label": {
            label: int((real.table["diagnosis"] == label).sum()) for label in run.classes
        },
        "n_synthetic_per_label": run.cell.n_synthetic,
        "synthetic": images.synthetic,
        "n_validation": len(images.validation),
        "grid": list(images.train.shape),
        **_training_record(fitted),
        "seconds": round(seconds, 3),
        "threads": fitted.n_threads,
        "files": {
            str(path.relative_to(run.out)): sha256_file(path)
            for path in (run.out / VALIDATION_SCORES, run.out / HISTORY, fitted.weights)
        },
        "versions": versions("torch", "monai", "clinicadl", "numpy", "pandas", "scikit-learn"),
    }
    write_scores(run, images, fitted.scores, record)
    (run.out / CHECKPOINT).unlink(missing_ok=True)


def _training_record(fitted: Fitted) -> dict[str, Any]:
    """What the record of a run says of its training."""
    settings, device = fitted.settings, "cpu"
    if settings.device.type == "cuda":
        import torch

        device = torch.cuda.get_device_name(settings.device)
    return {
        "n_training_images": fitted.n_images,
        "images_per_epoch": settings.n_items or fitted.n_images,
        "epochs": len(fitted.run.history),
        "gradient_steps": fitted.run.history[-1]["steps"],
        "best_epoch": fitted.run.best_epoch,
        "best_validation_balanced_accuracy": fitted.run.best_value,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "network": fitted.network,
        "device": device,
        "precision": "bf16" if settings.bf16 else "32",
    }


def _score_table(scores: Mapping[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """One table of the score rows of several sets."""
    rows = [{**row, "test_set": name} for name, found in scores.items() for row in found]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def write_scores(
    run: Run, images: CellImages, scores: Mapping[str, list[dict[str, Any]]], record: dict[str, Any]
) -> None:
    """Write ``scores.tsv``, then the record that the run is complete."""
    write_tsv(run.out / SCORES, _score_table(scores))
    files = {**record["files"], SCORES: sha256_file(run.out / SCORES)}
    n_test = {name: len(test) for name, test in images.tests.items()}
    write_json(run.out / RECORD, {**record, "files": files, "n_test": n_test})
