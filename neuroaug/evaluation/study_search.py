"""The random search of the classifier in a study: on the split's training set, in one folder."""

from __future__ import annotations

from pathlib import Path

from neuroaug.cohort.split_table import open_split
from neuroaug.config import ClassifierSpec, SearchConfig
from neuroaug.errors import InputError
from neuroaug.evaluation.runs import LabelledFolder
from neuroaug.evaluation.search import BEST, search
from neuroaug.imaging.cache import voxel_sha256
from neuroaug.imaging.caps import image_files
from neuroaug.study import Study
from neuroaug.system.files import read_json

TRAINING_SET = "train"  # the papers search on train-full, whatever the cells are trained on


def search_study(
    study: Study,
    config: SearchConfig,
    *,
    resolution: str,
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
    config : SearchConfig
        Trials (``draws``), folds, epochs and seed.
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size of the images; the papers made one search per input size.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    n_threads : int, optional
        CPU threads; by default torch's own number.

    Returns
    -------
    Path
        ``search/<resolution>/best.json``, which cells of the network ``optimised`` use.

    Raises
    ------
    InputError
        If there is no split, it was edited by hand, or an image is missing.
    """
    split = open_split(study)
    table = split.table(TRAINING_SET)
    table = table[table["diagnosis"].isin(study.config.classes)].reset_index(drop=True)
    checksums = [voxel_sha256(path) for path in image_files(study.caps, table, resolution)]
    return search(
        LabelledFolder(study.caps, table),
        out=study.search(resolution),
        config=config,
        evaluation=study.config.evaluation,
        resolution=resolution,
        classes=study.config.classes,
        device=device,
        n_threads=n_threads,
        cache_folder=study.cache / "evaluation",
        lineage=table[["participant_id", "session_id", "diagnosis"]].assign(
            image_sha256=checksums, split=TRAINING_SET, split_hash=split.hash
        ),
    )


def found(study: Study, resolution: str) -> ClassifierSpec:
    """Read the network that was found at a resolution.

    Raises
    ------
    InputError
        If none was searched for yet.
    """
    path = study.search(resolution) / BEST
    if not path.is_file():
        raise InputError(
            f"{path}: no network was searched for at {resolution} yet; "
            f"run 'neuroaug search --resolution {resolution}'"
        )
    return ClassifierSpec.model_validate(read_json(path))
