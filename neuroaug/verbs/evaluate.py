"""``neuroaug evaluate``: the user's CNNs on real, synthetic and real + synthetic images.

Before any training, `neuroaug.audit.leakage` proves that no generator saw anyone whom a cell is
validated or tested on. The tables are always remade from the per-image scores.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from neuroaug.audit.leakage import prove, synthetic_sets
from neuroaug.config import OPTIMISED, Cell
from neuroaug.errors import InputError
from neuroaug.study import Study
from neuroaug.verbs import search
from neuroaug.verbs.inputs import open_split
from neuroaug.verbs.split import external_table

if TYPE_CHECKING:
    from neuroaug.evaluation.clinicadl import Run

log = logging.getLogger("neuroaug")


def evaluate(
    study: Study,
    *,
    cells: Sequence[str] | None = None,
    runs: Sequence[int] | None = None,
    n_procs: int = 1,
    n_threads: int | None = None,
    device: str = "auto",
    dry_run: bool = False,
    summary_only: bool = False,
) -> None:
    """Prove that the cells do not leak, train and test what is missing, and write the tables.

    Parameters
    ----------
    study : Study
        The study.
    cells : sequence of str, optional
        Cells by name, or by their ``<data>`` part with the study's defaults; default: all of the
        study's.
    runs : sequence of int, optional
        Only these runs (from 0). The tables are then left to a later call.
    n_procs : int
        Runs at a time, each in a process of its own.
    n_threads : int, optional
        CPU threads a run.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    dry_run : bool
        Stop after the proof, with an estimate of the time.
    summary_only : bool
        Only remake ``results.tsv`` and ``comparisons.tsv``.

    Raises
    ------
    LeakageError
        If a generator saw a validation, test or external participant; they are named.
    InputError
        If the split was edited by hand, an image is missing, or a set holds too few images.
    """
    wanted = tuple(study.config.cell(name) for name in cells) if cells else study.config.cells()
    if runs is not None and (bad := [k for k in runs if not 0 <= k < study.config.evaluation.runs]):
        raise InputError(
            f"--run {bad[0]}: this study has runs 0 to {study.config.evaluation.runs - 1}"
        )
    if not summary_only:
        numbers = list(runs) if runs is not None else list(range(study.config.evaluation.runs))
        todo = prepare(study, wanted, numbers)
        if dry_run:
            from neuroaug.workflow.stages.evaluate_stage import say_evaluation

            say_evaluation(study, todo, n_procs)
            return
        _work_off(todo, study.cache / "evaluation", n_procs, n_threads, device)
        if runs is not None:
            log.info("%s", ", ".join(f"{run.cell.name} run {run.k}" for run in todo))
            return
    summarise(study)


def prepare(study: Study, cells: Sequence[Cell], runs: Sequence[int]) -> list[Run]:
    """Prove that no cell leaks, and describe its runs."""
    from neuroaug.evaluation.clinicadl import LabelledFolder, Run, Synthetic

    split = open_split(study)
    validation = split.table("validation")
    tests: dict[str, tuple[Path, pd.DataFrame]] = {"test": (study.caps, split.table("test"))}
    for name in study.config.external:
        tests[name] = external_table(study, name)
    prepared = []
    seeds = study.config.generator.seeds
    for cell in cells:
        if cell.split not in split.names():
            raise InputError(f"cell {cell.name}: no set '{cell.split}' in {study.splits}")
        train = split.table(cell.split)
        sets = synthetic_sets(
            study, cell, tuple(dict.fromkeys(seeds[k % len(seeds)] for k in runs))
        )
        forbidden = {"validation": (study.caps, validation), **tests}
        spec = search.found(study, cell.resolution) if cell.network == OPTIMISED else None
        searched = (
            (search.folder_of(study, cell.resolution), split.table(search.TRAINING_SET))
            if spec
            else None
        )
        prove(
            study, cell, split_hash=split.hash, train=train, forbidden=forbidden, sets=sets, searched=searched
        )  # fmt: skip
        for k in runs:
            by_label = sets.get(seeds[k % len(seeds)], {})
            prepared.append(
                Run(
                    cell=cell,
                    k=k,
                    out=study.run(cell, k),
                    config=study.config.evaluation,
                    train=LabelledFolder(study.caps, train),
                    validation=LabelledFolder(study.caps, validation),
                    tests={
                        name: LabelledFolder(caps, table) for name, (caps, table) in tests.items()
                    },
                    synthetic=[
                        Synthetic(label, folder, cell.n_synthetic)
                        for label, folder in by_label.items()
                    ],
                    labels=study.config.labels,
                    spec=spec,
                )
            )
    return prepared


def _work_off(
    runs: Sequence[Run], cache: Path, n_procs: int, n_threads: int | None, device: str
) -> None:
    if n_procs <= 1 or len(runs) <= 1:
        _do(runs, cache, n_threads, device)
        return
    shares = [runs[i::n_procs] for i in range(min(n_procs, len(runs)))]
    with ProcessPoolExecutor(len(shares), mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(_do, share, cache, n_threads or 1, device) for share in shares]:
            future.result()


def _do(runs: Sequence[Run], cache: Path, n_threads: int | None, device: str) -> None:
    from neuroaug.evaluation.clinicadl import run_cells

    run_cells(runs, device=device, n_threads=n_threads, cache_folder=cache)


def summarise(study: Study) -> None:
    """Write ``results.tsv`` and ``comparisons.tsv`` from the scores of all complete runs."""
    from neuroaug.statistics.results import summarise_study

    cells = [
        cell for cell in study.config.cells() if list(study.cell(cell).glob("run-*/scores.tsv"))
    ]
    if not cells:
        raise InputError(f"{study.root / 'evaluation'}: no run has ended yet; nothing to summarise")
    for note in summarise_study(study, cells).notes:
        log.info("%s", note)
    log.info("%s", study.results)
