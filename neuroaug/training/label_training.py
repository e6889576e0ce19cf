"""One label's generator: its images and lineage from a set of a split, then the training."""

from __future__ import annotations

from pathlib import Path

import torch

from neuroaug.cohort.split_table import SplitTable
from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.imaging.cache import CohortCache
from neuroaug.imaging.caps import image_files
from neuroaug.training.train import MIN_PARTICIPANTS, train


def train_label(
    table: SplitTable,
    label: str,
    *,
    caps: Path,
    out: Path,
    config: GeneratorConfig,
    resolution: str,
    cache_root: Path,
    seed: int,
    device: str = "auto",
    n_devices: int = 1,
    n_threads: int | None = None,
    typed_batch: int | None = None,
) -> None:
    """Train the generator of a label on its participants, or go on where it stopped.

    Parameters
    ----------
    table : SplitTable
        The training set.
    label : str
        Diagnosis whose rows are learned.
    caps : Path
        Preprocessed images.
    out : Path
        Model folder.
    config : GeneratorConfig
        Settings of the generator.
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size of the images.
    cache_root : Path
        Folder of memory-mapped copies of images.
    seed : int
        Seed of weights, order and noise.
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
        If the label has too few participants, or an image is missing.
    """
    rows = table.rows(label)
    if len(rows) < MIN_PARTICIPANTS:
        raise InputError(
            f"label '{label}': {len(rows)} training participants in the split '{table.name}', "
            f"at least {MIN_PARTICIPANTS} are needed to learn a generator"
        )
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
        seed=seed,
        typed_batch=typed_batch,
    )
