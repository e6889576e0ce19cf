"""Runs of cells, one training and test of one classifier each: from folders to ``scores.tsv``.

ClinicaDL's `Trainer`, `Maps`, `SupervisedModel`, `Split` and callbacks do the work;
`neuroaug.evaluation.clinicadl` gives it images, order, metrics and checkpoints that are right.
Importing ClinicaDL takes ten seconds of one core, so it is imported inside functions, and
`run_cells` does several runs in one process; what a run gives does not depend on the runs before
it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroaug.config import Control
from neuroaug.errors import InputError
from neuroaug.evaluation.arms.ensemble import average_members, member_runs
from neuroaug.evaluation.cell_images import (
    Images,
    concatenate,
    require_both_classes,
    require_disjoint,
    require_one_grid,
    with_duplicates,
)
from neuroaug.evaluation.image_store import ImageStore
from neuroaug.evaluation.run_folder import (
    CHECKPOINT,
    FORMAT_VERSION,
    MAPS,
    SCORES,
    clear,
    is_complete,
    trained,
    write,
    write_scores,
)
from neuroaug.evaluation.runs import CellImages, ClassifierSettings, Run
from neuroaug.system.devices import find_devices
from neuroaug.system.files import sha256_file, sha256_json

if TYPE_CHECKING:
    import torch

# The settings that a run's scores depend on, beside its cell and seed.
_KEY = {"epochs", "batch_size", "learning_rate", "weight_decay", "scaling", "storage", "precision"}


def run_cells(
    runs: Sequence[Run],
    *,
    device: str = "auto",
    n_threads: int | None = None,
    cache_folder: Path | None = None,
) -> list[Path]:
    """Train and test runs, one after another.

    A finished run of the same inputs is not done again; one that was killed goes on from its last
    checkpoint and ends with the scores of an uninterrupted run (the same bytes on a CPU with the
    same number of threads).

    Parameters
    ----------
    runs : sequence of Run
        Runs to do, each with its folder.
    device : str
        Device that trains, as `find_devices` reads it.
    n_threads : int, optional
        Threads of torch on the CPU; by default torch's own number.
    cache_folder : Path, optional
        Folder of the memory-mapped copies of the images (a study's ``cache``); by default
        ``cache`` beside the cell's folder. Runs of all cells should share it.

    Returns
    -------
    list of Path
        ``<out>/scores.tsv`` of each run.

    Raises
    ------
    InputError
        Missing column, unknown diagnosis, duplicate visit, visit without image, images of two
        grids, an empty class, too few synthetic images.
    LeakageError
        If a participant is in two of the sets.
    DivergenceError
        If the loss or a score is not a number.
    ResourceError
        No such device, or too little of its memory.
    """
    where = find_devices(device).first
    stores: dict[tuple[Any, ...], ImageStore] = {}
    paths = []
    for run in runs:
        folder = Path(cache_folder) if cache_folder is not None else run.out.parent.parent / "cache"
        key = (folder, run.cell.resolution, run.config.scaling, run.config.storage)
        store = stores.setdefault(key, ImageStore(*key))
        paths.append(_run(run, store, where, n_threads))
    return paths


def _run(run: Run, store: ImageStore, device: torch.device, n_threads: int | None) -> Path:
    images = read_images(run, store)
    training_inputs, inputs = _inputs(run, images)
    if is_complete(run.out, inputs):
        return run.out / SCORES
    settings = run.settings(images.n_real, device, n_threads)
    if run.cell.n_members > 1:
        return _run_ensemble(run, images, store, settings, inputs, training_inputs, n_threads)
    if run.cell.control is not None:
        return _run_control(run, images, settings, inputs, training_inputs)
    from neuroaug.evaluation.clinicadl import classifier_training

    if (record := trained(run.out, training_inputs)) is not None:
        scores = classifier_training.test_again(
            settings, images.train.shape, run.out / MAPS, images.tests, run.classes
        )
        write_scores(run, images, scores, {**record, "inputs": inputs})
        return run.out / SCORES
    clear(run.out)
    started = time.monotonic()
    fitted = classifier_training.fit(
        images.train,
        images.validation,
        settings,
        maps=run.out / MAPS,
        tests=images.tests,
        checkpoint=run.out / CHECKPOINT,
        inputs=training_inputs,
        title=f"{run.cell.name} run {run.k}",
        task=classifier_training.two_classes(run.classes),
    )
    seconds = time.monotonic() - started
    write(run, images, fitted, seconds, {"inputs": inputs, "training_inputs": training_inputs})
    return run.out / SCORES


def _run_ensemble(
    run: Run,
    images: CellImages,
    store: ImageStore,
    settings: ClassifierSettings,
    inputs: str,
    training_inputs: str,
    n_threads: int | None,
) -> Path:
    """Train the members, each a run of its own that may be stopped, and average their scores."""
    started = time.monotonic()
    members = member_runs(run)
    for member in members:
        _run(member, store, settings.device, n_threads)
    clear(run.out)
    fitted = average_members(run, members, images, settings)
    seconds = time.monotonic() - started
    write(run, images, fitted, seconds, {"inputs": inputs, "training_inputs": training_inputs})
    return run.out / SCORES


def _run_control(
    run: Run, images: CellImages, settings: ClassifierSettings, inputs: str, training_inputs: str
) -> Path:
    """Fit a control and write what a run leaves; it is quick, so that nothing of it is kept."""
    from neuroaug.evaluation.control_runs import fit_control

    clear(run.out)
    started = time.monotonic()
    fitted = fit_control(run, images, settings)
    seconds = time.monotonic() - started
    write(run, images, fitted, seconds, {"inputs": inputs, "training_inputs": training_inputs})
    return run.out / SCORES


def read_images(run: Run, store: ImageStore) -> CellImages:
    """Read and check every image that a run needs.

    Raises
    ------
    InputError, LeakageError
        See `run_cells`.
    """
    real = store.real(run.train.caps, run.train.table, run.classes, "the training set")
    validation = store.real(
        run.validation.caps, run.validation.table, run.classes, "the validation set"
    )
    tests = {
        name: store.real(t.caps, t.table, run.classes, f"test set '{name}'")
        for name, t in run.tests.items()
    }
    parts, counts = ([real] if run.cell.uses_real else []), []
    if run.cell.n_synthetic:
        _require_enough_synthetic(run)
        for s in run.synthetic:
            part = store.synthetic(
                Path(s.folder),
                s.label,
                s.n,
                positive=s.label == run.classes[1],
                labels=run.cell.synthetic_labels,
            )
            parts.append(part)
            counts.append({"label": s.label, "n": s.n, "sha256": part.sha256()})
    if run.cell.uses_unlabelled:
        parts.append(_soft_unlabelled(run, store))
    train = concatenate(parts)
    named = {f"test set '{name}'": test for name, test in tests.items()}
    sets = {"the training set": train, "the validation set": validation, **named}
    require_one_grid(list(sets.values()))
    require_disjoint(sets)
    if not run.cell.uses_unlabelled:
        require_both_classes(train.table, run.classes, f"cell '{run.cell.name}', training set")
    require_both_classes(validation.table, run.classes, "the validation set")
    if run.cell.n_duplicates:
        train = with_duplicates(train, run.cell.n_duplicates)
    return CellImages(train, validation, tests, len(real), counts)


def _soft_unlabelled(run: Run, store: ImageStore) -> Images:
    """Scans of the unlabelled visits, with the probability that the generator's law gives them."""
    if run.unlabelled is None or run.law_model is None:
        raise InputError(f"cell '{run.cell.name}': no unlabelled visits, or no law, were given")
    from neuroaug.evaluation.control_runs import law_scores

    score = law_scores(run.law_model, run.classes)
    return store.unlabelled(run.unlabelled, lambda images: 1 / (1 + np.exp(-score(images))))


def _require_enough_synthetic(run: Run) -> None:
    wanted = run.cell.n_synthetic
    for label in run.classes:
        found = sum(s.n for s in run.synthetic if s.label == label)
        if found != wanted:
            raise InputError(
                f"cell '{run.cell.name}': {wanted} synthetic images of {label} are needed, {found} "
                f"given; draw them with 'neuroaug augment --label {label} --n {wanted}'"
            )


def _inputs(run: Run, images: CellImages) -> tuple[str, str]:
    """Checksums of all that a run's training, and its scores, depend on, except the machine.

    A test set that is added later does not change the first, so that nothing is trained again for
    it.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "cell": run.cell.name,
        "seed": run.seed,
        "config": {
            **run.config.model_dump(mode="json", include=_KEY),
            "epochs": run.config.epochs_of(run.cell.network),
        },
        "spec": run.spec.model_dump(mode="json") if run.spec else None,
        "n_real": images.n_real,
        "train": images.train.sha256(),
        "validation": images.validation.sha256(),
        **_beside_images(run, images),
    }
    tests = {name: test.sha256() for name, test in images.tests.items()}
    return sha256_json(content), sha256_json({**content, "tests": tests})


def _beside_images(run: Run, images: CellImages) -> dict[str, Any]:
    """What a control depends on beside images and labels; nothing for a network."""
    if run.cell.control is Control.BRAIN_AGE:
        sets = {"train": images.train, "validation": images.validation, **images.tests}
        return {"ages": {name: repr(some.ages.tolist()) for name, some in sets.items()}}
    if run.law_model is not None:
        return {"model": sha256_file(run.law_model / "config.json")}
    return {}
