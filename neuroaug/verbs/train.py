"""``neuroaug train``: one generator, learned from one label's training participants."""

from __future__ import annotations

import logging
from pathlib import Path

from neuroaug.config import GeneratorConfig, Resolution
from neuroaug.errors import InputError
from neuroaug.imaging.cache import CohortCache
from neuroaug.study import Study
from neuroaug.verbs.inputs import SplitTable, image_files, read_split

log = logging.getLogger("neuroaug")

MIN_PARTICIPANTS = 5


def train(
    study: Study | None,
    *,
    label: str,
    caps: Path | None = None,
    split: str | None = None,
    out: Path | None = None,
    config: GeneratorConfig | None = None,
    resolution: Resolution | None = None,
    seed: int | None = None,
    device: str = "auto",
    n_devices: int = 1,
    n_threads: int | None = None,
    typed_batch: int | None = None,
) -> Path:
    """Train the generator of `label` on a split, or continue where it stopped.

    Returns
    -------
    Path
        The model folder.
    """
    table = read_split(study, split)
    if study is not None:
        caps = caps or study.caps
        config = config or study.config.generator
        resolution = resolution or study.config.resolution
        out = out or study.model(table.name, label, seed)
    if caps is None or out is None:
        raise InputError("train: outside a study, a CAPS folder and --out are needed")
    config = config or GeneratorConfig()
    resolution = resolution or "2mm"
    seed = config.seeds[0] if seed is None else seed
    rows = table.rows(label)
    if len(rows) < MIN_PARTICIPANTS:
        raise InputError(
            f"label '{label}': {len(rows)} training participants in the split '{table.name}', "
            f"at least {MIN_PARTICIPANTS} are needed to learn a generator"
        )
    cache = training_cache(caps, table, label, resolution, config, _cache_root(study, out))
    lineage = rows[["participant_id", "session_id", "diagnosis"]].assign(
        image_sha256=list(cache.image_sha256), split=table.name, split_hash=table.hash
    )
    import torch

    from neuroaug.training.train import train as train_generator

    if n_threads:
        torch.set_num_threads(n_threads)
    train_generator(
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
    return out


def _cache_root(study: Study | None, out: Path) -> Path:
    return study.cache if study is not None else out.parent / ".cache"


def training_cache(
    caps: Path,
    table: SplitTable,
    label: str,
    resolution: Resolution,
    config: GeneratorConfig,
    root: Path,
) -> CohortCache:
    """The label's training images as one memory-mapped array."""
    rows = table.rows(label)
    return CohortCache.build(
        root / f"{table.name}_{label}_{resolution}_{config.scaling}",
        image_files(caps, rows, resolution),
        rows,
        dtype="float16",
        scaling=config.scaling,
    )
