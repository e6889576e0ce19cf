"""``neuroaug train``: one generator, learned from one label's training participants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        str | None,
        option("--latent-dim", "Latent dimension; auto: by people left out.", GENERATOR),
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
        latent_dim=None if latent_dim is None else _latents(latent_dim),
        batch_size=batch_size,
        max_epochs=epochs,
        learning_rate=learning_rate,
    )
    from neuroaug.training.label_training import TrainingRequest, train_label

    request = TrainingRequest(
        resolution=resolution or config_of(study).resolution,
        caps=caps,
        split=split,
        out=out,
        seed=seed,
        device=device,
        n_devices=n_devices,
        n_threads=omp_nthreads,
        typed_batch=batch_size,
    )
    train_label(study, label, config, request)


def _latents(text: str) -> int | str:
    """Read ``10`` or ``auto``."""
    if text != "auto" and not text.isdecimal():
        raise InputError(f"--latent-dim {text}: expected a whole number of 1 or more, or auto")
    return text if text == "auto" else int(text)
