"""``neuroaug train``: one generator, learned from one label's training participants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from neuroaug.cli.console import command, start
from neuroaug.cli.options import (
    FILES,
    HARDWARE,
    Caps,
    Device,
    ImageResolution,
    Label,
    Seed,
    SplitName,
    Threads,
    choice,
    config_of,
    option,
    overlay,
)
from neuroaug.errors import InputError
from neuroaug.registries import FAMILIES, NETWORKS

if TYPE_CHECKING:
    from neuroaug.config import GeneratorConfig
    from neuroaug.study import Study

GENERATOR, OPTIMISATION = "Generator", "Optimisation"


@command("train", epilog="Example: neuroaug train --label AD --split train-50")
def train(
    label: Label,
    caps: Caps = None,
    split: SplitName = None,
    out: Annotated[
        Path | None, option("--out", "Model folder (default: the study's).", FILES)
    ] = None,
    resolution: ImageResolution = None,
    network: Annotated[
        str | None, choice("--network", NETWORKS.names, "Encoder and decoder", GENERATOR)
    ] = None,
    model: Annotated[
        str | None, choice("--model", FAMILIES.names, "Family of the generator", GENERATOR)
    ] = None,
    latent_dim: Annotated[
        int | None, option("--latent-dim", "Latent dimension.", GENERATOR)
    ] = None,
    batch_size: Annotated[
        int | None, option("--batch-size", "Images per step.", OPTIMISATION)
    ] = None,
    epochs: Annotated[
        int | None, option("--epochs", "At most so many epochs.", OPTIMISATION)
    ] = None,
    learning_rate: Annotated[
        float | None, option("--learning-rate", "Learning rate of Adam.", OPTIMISATION)
    ] = None,
    seed: Seed = None,
    device: Device = "auto",
    n_devices: Annotated[int, option("--n-devices", "GPUs (or CPU processes).", HARDWARE)] = 1,
    omp_nthreads: Threads = None,
) -> None:
    """Train one generator (RHVAE) on one label's training set. Resumes where it stopped."""
    study = start("train")
    config = overlay(
        config_of(study).generator,
        {"max_epochs": "--epochs"},
        network=network,
        model=model,
        latent_dim=latent_dim,
        batch_size=batch_size,
        max_epochs=epochs,
        learning_rate=learning_rate,
    )
    train_generator(
        study,
        label,
        config,
        caps=caps,
        split=split,
        out=out,
        resolution=resolution,
        seed=seed,
        device=device,
        n_devices=n_devices,
        n_threads=omp_nthreads,
        typed_batch=batch_size,
    )


def train_generator(
    study: Study | None,
    label: str,
    config: GeneratorConfig,
    *,
    caps: Path | None,
    split: str | None,
    out: Path | None = None,
    resolution: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    n_devices: int = 1,
    n_threads: int | None = None,
    typed_batch: int | None = None,
) -> None:
    """Train the generator of a label in a study, or between folders that are named.

    Parameters
    ----------
    study : Study or None
        Gives split, images, resolution and model folder where they are not passed.
    label : str
        Diagnosis.
    config : GeneratorConfig
        Settings of the generator.
    caps, split, out : optional
        Preprocessed images; training set by name or path; model folder.
    resolution : {"1mm", "2mm", "4mm"}, optional
        Voxel size of the images; by default the study's.
    seed : int, optional
        Seed of weights, order and noise; by default the first of the configuration.
    device, n_devices, n_threads, typed_batch
        See `neuroaug.training.label_training.train_label`.
    """
    from neuroaug.cohort.split_table import read_split

    table = read_split(study, split)
    if study is not None:
        caps, out = caps or study.caps, out or study.model(table.name, label, seed)
    if caps is None or out is None:
        raise InputError("train: outside a study, a CAPS folder and --out are needed")
    from neuroaug.training.label_training import train_label

    train_label(
        table,
        label,
        caps=caps,
        out=out,
        config=config,
        resolution=resolution or config_of(study).resolution,
        cache_root=study.cache if study is not None else out.parent / ".cache",
        seed=config.seeds[0] if seed is None else seed,
        device=device,
        n_devices=n_devices,
        n_threads=n_threads,
        typed_batch=typed_batch,
    )
