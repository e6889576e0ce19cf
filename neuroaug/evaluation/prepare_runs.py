"""The runs of a study's cells: proved free of leakage, described, and worked off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from neuroaug.audit.leakage import prove, synthetic_sets, unlabelled_images
from neuroaug.cohort.account import label_external
from neuroaug.cohort.split_table import open_split
from neuroaug.cohort.splits import make_external
from neuroaug.config import OPTIMISED, Cell
from neuroaug.errors import InputError
from neuroaug.evaluation import study_search
from neuroaug.evaluation.run_cells import run_cells
from neuroaug.evaluation.runs import LabelledFolder, Run, Synthetic
from neuroaug.imaging.caps import require_caps
from neuroaug.study import Study
from neuroaug.system.threads import processes

log = logging.getLogger(__name__)


def prepare(study: Study, cells: Sequence[Cell], runs: Sequence[int]) -> list[Run]:
    """Prove that no cell leaks, and describe its runs.

    Parameters
    ----------
    study : Study
        The study.
    cells : sequence of Cell
        Training sets and networks.
    runs : sequence of int
        Numbers of the runs of each cell, from 0.

    Raises
    ------
    LeakageError
        If a generator saw a validation, test or external participant; they are named.
    InputError
        If the split was edited by hand, an image is missing, or a set holds too few images.
    """
    classes = study.config.classes
    split = open_split(study)
    validation = split.table("validation")
    tests = {"test": (study.caps, split.table("test"))}
    tests |= {name: external_table(study, name) for name in study.config.external}
    forbidden = {"validation": (study.caps, validation), **tests}
    seeds = study.config.generator.seeds
    prepared = []
    for cell in cells:
        if cell.split not in split.names():
            raise InputError(f"cell {cell.name}: no set '{cell.split}' in {study.splits}")
        train = split.table(cell.split)
        sets = synthetic_sets(
            study, cell, tuple(dict.fromkeys(seeds[k % len(seeds)] for k in runs))
        )
        spec = searched = None
        if cell.network == OPTIMISED:
            spec = study_search.found(study, cell.resolution)
            searched = (study.search(cell.resolution), split.table(study_search.TRAINING_SET))
        taken = {seeds[k % len(seeds)] for k in runs}
        laws = _law_models(study, cell, sorted(taken))
        prove(
            study,
            cell,
            split_hash=split.hash,
            train=train,
            forbidden=forbidden,
            sets=sets,
            searched=searched,
            models=tuple(laws.values()),
        )
        prepared += [
            Run(
                cell=cell,
                k=k,
                out=study.run(cell, k),
                config=study.config.evaluation,
                train=LabelledFolder(study.caps, _of(train, classes)),
                validation=LabelledFolder(study.caps, _of(validation, classes)),
                tests={
                    name: LabelledFolder(caps, _of(table, classes))
                    for name, (caps, table) in tests.items()
                },
                synthetic=[
                    Synthetic(label, folder, cell.n_synthetic)
                    for label, folder in sets.get(seeds[k % len(seeds)], {}).items()
                ],
                classes=classes,
                spec=spec,
                law_model=laws.get(seeds[k % len(seeds)]),
                unlabelled=_unlabelled(study, cell, laws.get(seeds[k % len(seeds)])),
            )
            for k in runs
        ]
    return prepared


def _law_models(study: Study, cell: Cell, seeds: Sequence[int]) -> dict[int, Path]:
    """Generators whose law is the classifier of a cell, or labels its scans, by seed.

    Raises
    ------
    InputError
        If one is not trained.
    """
    if not cell.asks_law:
        return {}
    positive = study.config.classes[1]
    folders = {seed: study.model(cell.split, positive, seed) for seed in seeds}
    for folder in folders.values():
        if not (folder / "config.json").is_file():
            raise InputError(
                f"cell {cell.name}: no generator in {folder}; train it with 'neuroaug train "
                f"--label {positive} --split {cell.split}'"
            )
    return folders


def _unlabelled(study: Study, cell: Cell, model: Path | None) -> pd.DataFrame | None:
    """Visits that a cell trains on by the law of a generator which learned from them.

    Raises
    ------
    InputError
        If there is none.
    """
    if not cell.uses_unlabelled or model is None:
        return None
    images = unlabelled_images(study, [model], cell.resolution)
    if not images:
        raise InputError(
            f"cell {cell.name}: its generator learned from no visit without a label; name some in "
            "generator.unlabelled and train again"
        )
    # <caps>/subjects/<participant>/<session>/t1_linear/<image>
    rows = [(*visit, str(path.parents[4])) for visit, path in sorted(images.items())]
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "caps"])


def _of(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """People of the two classes; a study may have more labels than are told apart."""
    return table[table["diagnosis"].isin(classes)].reset_index(drop=True)


def external_table(study: Study, name: str) -> tuple[Path, pd.DataFrame]:
    """CAPS and table of an external test cohort.

    The table is kept, with its exclusions, in ``splits/external/<name>``.
    """
    external = study.config.external[name]
    caps = require_caps(study.path(external.caps))
    people = label_external(study, name)
    for line in people.account.lines():
        log.info("external cohort %s: %s", name, line)
    out = study.splits / "external" / name
    made = make_external(
        people.labelled,
        people.exclusions,
        out,
        name,
        labels=study.config.class_labels,
        cohort=people.cohort,
        notes=people.notes,
    )
    return caps, made.table(name)


def work_off(
    runs: Sequence[Run], cache: Path, n_procs: int = 1, *, n_threads: int | None, device: str
) -> None:
    """Train and test what is missing of some runs.

    Parameters
    ----------
    runs : sequence of Run
        From `prepare`.
    cache : Path
        Folder of memory-mapped copies of the images.
    n_procs : int
        Runs at a time, each in a process of its own.
    n_threads : int, optional
        CPU threads per run; by default torch's own number, or 1 where several runs go at a time.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    """
    if n_procs <= 1 or len(runs) <= 1:
        run_cells(runs, device=device, n_threads=n_threads, cache_folder=cache)
        return
    shares = [runs[i::n_procs] for i in range(min(n_procs, len(runs)))]
    do = partial(run_cells, device=device, n_threads=n_threads or 1, cache_folder=cache)
    with processes(len(shares)) as pool:
        list(pool.map(do, shares))
