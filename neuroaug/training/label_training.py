"""One label's generator: its images and lineage from a set of a split, then the training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from neuroaug.cohort.split_table import read_split
from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.imaging.cache import CohortCache
from neuroaug.imaging.caps import image_files
from neuroaug.training.train import MIN_PARTICIPANTS, train

if TYPE_CHECKING:
    from neuroaug.study import Study


def train_label(
    study: Study | None,
    label: str,
    config: GeneratorConfig,
    *,
    resolution: str,
    caps: Path | None = None,
    split: str | None = None,
    out: Path | None = None,
    seed: int | None = None,
    device: str = "auto",
    n_devices: int = 1,
    n_threads: int | None = None,
    typed_batch: int | None = None,
) -> None:
    """Train the generator of a label on its participants, or go on where it stopped.

    Parameters
    ----------
    study : Study or None
        Gives the training set, the images and the model folder where they are not passed.
    label : str
        Diagnosis whose rows are learned.
    config : GeneratorConfig
        Settings of the generator.
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size of the images.
    caps : Path, optional
        Preprocessed images.
    split : str, optional
        Training set: its name in the study, or the path of a TSV.
    out : Path, optional
        Model folder.
    seed : int, optional
        Seed of weights, order and noise; by default the first of the configuration.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    n_devices : int
        Processes, one per device, that share each batch.
    n_threads : int, optional
        CPU threads; by default torch's own number.
    typed_batch : int, optional
        Batch size that the user typed; unlike a default it is never reduced.

    Raises
    ------
    InputError
        If a folder or the training set is neither passed nor a study's, the label has too few
        participants, or an image is missing.
    """
    table = read_split(study, split)
    if study is not None:
        caps, out = caps or study.caps, out or study.model(table.name, label, seed)
    if caps is None or out is None:
        raise InputError("train: outside a study, a CAPS folder and --out are needed")
    rows = table.rows(label)
    if len(rows) < MIN_PARTICIPANTS:
        raise InputError(
            f"label '{label}': {len(rows)} training participants in the split '{table.name}', "
            f"at least {MIN_PARTICIPANTS} are needed to learn a generator"
        )
    # Memory-mapped copies of the images.
    cache_root = study.cache if study is not None else out.parent / ".cache"
    cache = CohortCache.build(
        cache_root / f"{table.name}_{label}_{resolution}_{config.scaling}",
        image_files(caps, rows, resolution),
        rows,
        dtype="float16",
        scaling=config.scaling,
    )
    lineage = rows[["participant_id", "session_id", "diagnosis"]].assign(
        image_sha256=list(cache.image_sha256), split=table.name, split_hash=table.hash
    )
    if n_threads:
        torch.set_num_threads(n_threads)
    train(
        cache,
        config=config,
        label=label,
        out=out,
        lineage=lineage,
        split_hash=table.hash,
        grid=resolution,
        device=device,
        n_devices=n_devices,
        seed=config.seeds[0] if seed is None else seed,
        typed_batch=typed_batch,
    )
