"""A run's folder: what a finished run leaves, and how one sees that it is finished."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from neuroaug.system.files import read_json, sha256_file, write_json, write_tsv
from neuroaug.system.provenance import versions

if TYPE_CHECKING:
    from neuroaug.evaluation.classifier_training import Fitted
    from neuroaug.evaluation.clinicadl import CellImages, Run

FORMAT_VERSION = 1
CHECKPOINT = "checkpoint.safetensors"
SCORES, VALIDATION_SCORES, HISTORY, RECORD, MAPS = (
    "scores.tsv",
    "validation-scores.tsv",
    "history.tsv",
    "run.json",
    "maps",
)
COLUMNS = ["participant_id", "session_id", "test_set", "label", "score", "prediction"]


def is_complete(out: Path, inputs: str | None = None) -> bool:
    """Whether a run's folder holds a finished run (of these inputs, where given) that nobody
    changed.
    """
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
    names = [
        name for name in record["files"] if name != SCORES
    ]  # history, validation scores, weights
    return record if intact(out, record, names) else None


def clear(out: Path) -> None:
    """Remove what an interrupted or outdated run left, except its checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, SCORES, VALIDATION_SCORES, HISTORY):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / MAPS, ignore_errors=True)


def write(
    run: Run, images: CellImages, fitted: Fitted, cost: dict[str, Any], keys: dict[str, str]
) -> None:
    """Write everything that a run leaves beside its MAPS, the completion record last."""
    from neuroaug.evaluation import classifier_training

    validation = pd.DataFrame(fitted.run.best_scores).assign(test_set="validation")[COLUMNS]
    write_tsv(run.out / VALIDATION_SCORES, validation)
    write_tsv(run.out / HISTORY, pd.DataFrame(fitted.run.history))
    weights = classifier_training.weights_file(run.out / MAPS)
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
            label: int((real.table["diagnosis"] == label).sum()) for label in run.labels
        },
        "n_synthetic_per_label": run.cell.n_synthetic,
        "synthetic": images.synthetic,
        "n_validation": len(images.validation),
        "grid": list(images.train.shape),
        **fitted.summary(),
        **cost,
        "files": {
            str(path.relative_to(run.out)): sha256_file(path)
            for path in (run.out / VALIDATION_SCORES, run.out / HISTORY, weights)
        },
        "versions": versions("torch", "monai", "clinicadl", "numpy", "pandas", "scikit-learn"),
    }
    write_scores(run, images, fitted.scores, record)
    (run.out / CHECKPOINT).unlink(missing_ok=True)


def write_scores(
    run: Run, images: CellImages, scores: Mapping[str, list[dict[str, Any]]], record: dict[str, Any]
) -> None:
    """Write ``scores.tsv``, then the record that the run is complete."""
    tables = [pd.DataFrame(rows).assign(test_set=name) for name, rows in scores.items()]
    table = (
        pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
    )
    write_tsv(run.out / SCORES, table)
    files = {**record["files"], SCORES: sha256_file(run.out / SCORES)}
    n_test = {name: len(test) for name, test in images.tests.items()}
    write_json(run.out / RECORD, {**record, "files": files, "n_test": n_test})
