"""The adapter to ClinicaDL 2: one training and test of one classifier, from folders to
``scores.tsv``.

ClinicaDL's `Trainer`, `Maps`, `SupervisedModel`, `Split` and callbacks do the work; the modules
beside this one give it images, order, metrics and checkpoints that are right (docs: the traps of
2.0.0). Importing ClinicaDL takes ten seconds of one core, so it is imported inside functions, and
`run_cells` does several runs in one process; what a run gives does not depend on the runs before
it.

A run's folder
--------------
``scores.tsv``             participant_id session_id test_set label score prediction; score = P(AD)
``validation-scores.tsv``  the same for the validation set, at the epoch that was kept
``history.tsv``            one row an epoch: losses, validation balanced accuracy, sensitivity, specificity
``maps/``                  ClinicaDL's MAPS, of whose weights only the best epoch's are kept
``run.json``               the completion record, written last: seeds, counts, versions, checksums of the inputs
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from neuroaug.config import Cell, ClassifierSpec, EvaluationConfig
from neuroaug.errors import InputError
from neuroaug.evaluation.cell_images import (
    Images,
    ImageStore,
    concatenate,
    require_both_classes,
    require_disjoint,
    require_one_grid,
)
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
from neuroaug.evaluation.steps import run_seed

# The settings that a run's scores depend on, beside its cell and seed.
_KEY = {"epochs", "batch_size", "learning_rate", "weight_decay", "scaling", "storage", "precision"}


@dataclass(frozen=True)
class Synthetic:
    """Images 1..n of a synthetic CAPS, all of one label."""

    label: str
    folder: Path
    n: int


@dataclass(frozen=True)
class LabelledFolder:
    """Real images: a CAPS, and the table (or its path) of the visits to use with their diagnoses."""

    caps: Path
    table: Path | pd.DataFrame


@dataclass(frozen=True)
class Run:
    """One run to do.

    Attributes
    ----------
    cell : Cell
        Training set and network.
    k : int
        Number of the run, from 0; fixes its seed together with ``config.seed``.
    out : Path
        ``evaluation/<cell>/run-<k>``.
    config : EvaluationConfig
        Epochs, batch size and so on.
    train : LabelledFolder
        The split's real training images. Needed in every cell: they size ``matched`` cells.
    validation : LabelledFolder
        Real images that choose the epoch.
    tests : mapping of str to LabelledFolder
        Test sets by name (``test``, ``aibl``).
    synthetic : sequence of Synthetic
        Used where the cell's name says ``synthetic-<n>``; one entry a label, or several whose n add
        up. That their generators saw nobody they should not have is for the caller to prove
        (`neuroaug.cohort.lineage`); ClinicaDL compares names only and cannot.
    labels : sequence of str
        Diagnoses; AD is the positive class.
    spec : ClassifierSpec, optional
        What the search found, for cells of the network ``optimised``; its learning rate and weight
        decay replace those of `config`; `EvaluationConfig.epochs_of` says for how many epochs it
        trains.
    """

    cell: Cell
    k: int
    out: Path
    config: EvaluationConfig
    train: LabelledFolder
    validation: LabelledFolder
    tests: Mapping[str, LabelledFolder]
    synthetic: Sequence[Synthetic] = ()
    labels: Sequence[str] = ("CN", "AD")
    spec: ClassifierSpec | None = None

    @property
    def seed(self) -> int:
        """Seed of weights, order, dropout and augmentation. Run k of every cell has the same."""
        return run_seed(self.config.seed, self.k)


@dataclass(frozen=True, eq=False)
class CellImages:
    """The images of a run, read and checked."""

    train: Images
    validation: Images
    tests: dict[str, Images]
    n_real: int
    synthetic: list[dict[str, Any]] = field(default_factory=list)


def run_cell(
    *,
    cell: Cell,
    k: int,
    out: Path,
    config: EvaluationConfig,
    train: LabelledFolder,
    validation: LabelledFolder,
    tests: Mapping[str, LabelledFolder],
    synthetic: Sequence[Synthetic] = (),
    labels: Sequence[str] = ("CN", "AD"),
    spec: ClassifierSpec | None = None,
    device: str = "auto",
    n_threads: int | None = None,
    cache_folder: Path | None = None,
    n_procs: int = 1,
) -> Path:
    """Train and test one run of one cell.

    Started again on a finished run of the same inputs, it does nothing; on a run that was killed,
    it goes on from the last checkpoint and ends with the scores of an uninterrupted run (the same
    bytes on a CPU with the same number of threads).

    Parameters
    ----------
    cell, k, out, config, train, validation, tests, synthetic, labels, spec
        See `Run`.
    device : {"auto", "cpu", "cuda"}
        Where to train.
    n_threads : int, optional
        Threads of torch on the CPU; by default torch's own number.
    cache_folder : Path, optional
        Where memory-mapped copies of the images are kept (a study's ``cache``); by default
        ``cache`` beside the cell's folder. Runs of all cells should share it.
    n_procs : int
        Processes that read images the first time.

    Returns
    -------
    Path
        ``<out>/scores.tsv``.

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
    run = Run(cell, k, Path(out), config, train, validation, tests, synthetic, labels, spec)
    return run_cells(
        [run], device=device, n_threads=n_threads, cache_folder=cache_folder, n_procs=n_procs
    )[0]


def run_cells(
    runs: Sequence[Run],
    *,
    device: str = "auto",
    n_threads: int | None = None,
    cache_folder: Path | None = None,
    n_procs: int = 1,
) -> list[Path]:
    """Do several runs in one process, which saves ClinicaDL's import; see `run_cell`."""
    stores: dict[tuple[Any, ...], ImageStore] = {}
    paths = []
    for run in runs:
        folder = Path(cache_folder) if cache_folder is not None else run.out.parent.parent / "cache"
        key = (folder, run.cell.resolution, run.config.scaling, run.config.storage)
        store = stores.setdefault(key, ImageStore(*key, n_procs=n_procs))
        paths.append(_run(run, store, device, n_threads))
    return paths


def _run(run: Run, store: ImageStore, device: str, n_threads: int | None) -> Path:
    images = read_images(run, store)
    training_inputs, inputs = _inputs(run, images)
    if is_complete(run.out, inputs):
        return run.out / SCORES
    from neuroaug.evaluation import classifier_training

    settings = classifier_training.ClassifierSettings.of(run, images, device)
    with _threads(n_threads) as used_threads:
        if (record := trained(run.out, training_inputs)) is not None:
            scores = classifier_training.test_again(
                settings, images.train.shape, run.out / MAPS, images.tests
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
        )
    cost = {"seconds": round(time.monotonic() - started, 3), "threads": used_threads}
    write(run, images, fitted, cost, {"inputs": inputs, "training_inputs": training_inputs})
    return run.out / SCORES


def read_images(run: Run, store: ImageStore) -> CellImages:
    """Read and check every image that a run needs.

    Raises
    ------
    InputError
        See `run_cell`.
    """
    real = store.real(run.train.caps, run.train.table, run.labels, "the training set")
    validation = store.real(
        run.validation.caps, run.validation.table, run.labels, "the validation set"
    )
    tests = {
        name: store.real(t.caps, t.table, run.labels, f"test set '{name}'")
        for name, t in run.tests.items()
    }
    parts, counts = ([real] if run.cell.uses_real else []), []
    if run.cell.n_synthetic:
        for label in run.labels:
            found = sum(s.n for s in run.synthetic if s.label == label)
            if found != run.cell.n_synthetic:
                raise InputError(
                    f"cell '{run.cell.name}': {run.cell.n_synthetic} synthetic images of {label} are needed, "
                    f"{found} given; draw them with 'neuroaug augment --label {label} --n {run.cell.n_synthetic}'"
                )
        for s in run.synthetic:
            part = store.synthetic(Path(s.folder), s.label, s.n)
            parts.append(part)
            counts.append({"label": s.label, "n": s.n, "sha256": part.sha256()})
    train = concatenate(parts)
    named = {f"test set '{name}'": test for name, test in tests.items()}
    sets = {"the training set": train, "the validation set": validation, **named}
    require_one_grid(list(sets.values()))
    require_disjoint(sets)
    require_both_classes(train.table, run.labels, f"cell '{run.cell.name}', training set")
    require_both_classes(validation.table, run.labels, "the validation set")
    return CellImages(train, validation, tests, len(real), counts)


def _inputs(run: Run, images: CellImages) -> tuple[str, str]:
    """Checksums of everything that a run's training, and its scores, depend on, except the machine.

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
    }
    tests = {name: test.sha256() for name, test in images.tests.items()}
    return _checksum(content), _checksum({**content, "tests": tests})


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def _threads(n_threads: int | None) -> Iterator[int]:
    """Give torch `n_threads` threads while the block runs."""
    import torch

    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
