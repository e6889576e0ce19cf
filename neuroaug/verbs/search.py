"""``neuroaug search``: random search of the classifier on the study's training set."""

from __future__ import annotations

import logging
from pathlib import Path

from neuroaug.config import ClassifierSpec, Resolution
from neuroaug.errors import InputError
from neuroaug.imaging.cache import voxel_sha256
from neuroaug.study import Study
from neuroaug.system.files import read_json
from neuroaug.verbs.inputs import image_files, open_split

log = logging.getLogger("neuroaug")

TRAINING_SET = "train"  # the papers search on train-full, whatever the cells are trained on


def search(
    study: Study,
    *,
    resolution: Resolution | None = None,
    trials: int | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    device: str = "auto",
    n_threads: int | None = None,
) -> Path:
    """Draw architectures, score each by cross-validation on the real training set, keep the best.

    Only the split's ``train`` is read: no validation, test or synthetic image. Its participants are
    kept beside the result as ``lineage.tsv``, so that `neuroaug.audit.leakage.prove` can refuse a
    network that was chosen in another split.

    Parameters
    ----------
    study : Study
        The study.
    resolution : {"1mm", "2mm", "4mm"}, optional
        Of the images; the papers made one search per input size. Default: the study's.
    trials, folds, epochs : int, optional
        Instead of the study's ``search.draws``, ``folds`` and ``epochs``.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    n_threads : int, optional
        CPU threads.

    Returns
    -------
    Path
        ``search/<resolution>/best.json``, which cells of the network ``optimised`` use.
    """
    for option, value, least in (
        ("--trials", trials, 1),
        ("--folds", folds, 2),
        ("--epochs", epochs, 1),
    ):
        if value is not None and value < least:
            raise InputError(f"{option} {value}: at least {least}")
    split = open_split(study)
    resolution = resolution or study.config.resolution
    typed = {"draws": trials, "folds": folds, "epochs": epochs}
    config = study.config.search.model_copy(
        update={k: v for k, v in typed.items() if v is not None}
    )
    table = split.table(TRAINING_SET)
    table = table[table["diagnosis"].isin(study.config.labels)].reset_index(drop=True)
    checksums = [voxel_sha256(path) for path in image_files(study.caps, table, resolution)]
    from neuroaug.evaluation import search as engine
    from neuroaug.evaluation.runs import LabelledFolder

    path = engine.search(
        LabelledFolder(study.caps, table),
        out=folder_of(study, resolution),
        config=config,
        evaluation=study.config.evaluation,
        resolution=resolution,
        labels=study.config.labels,
        device=device,
        n_threads=n_threads,
        cache_folder=study.cache / "evaluation",
        lineage=table[["participant_id", "session_id", "diagnosis"]].assign(
            image_sha256=checksums, split=TRAINING_SET, split_hash=split.hash
        ),
    )
    log.info("%s: best of %d draws in %d folds", path, config.draws, config.folds)
    return path


def folder_of(study: Study, resolution: str) -> Path:
    """Folder of the search at a resolution."""
    return study.root / "search" / resolution


def found(study: Study, resolution: str) -> ClassifierSpec:
    """The network that was found at a resolution.

    Raises
    ------
    InputError
        If none was searched for yet.
    """
    path = folder_of(study, resolution) / "best.json"
    if not path.is_file():
        raise InputError(
            f"{path}: no network was searched for at {resolution} yet; run 'neuroaug search --resolution {resolution}'"
        )
    return ClassifierSpec.model_validate(read_json(path))
