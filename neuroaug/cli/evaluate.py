"""``neuroaug evaluate``: the user's CNNs on real, synthetic and real + synthetic images.

Before any training, `neuroaug.audit.leakage` proves that no generator saw anyone whom a cell is
validated or tested on. The tables are always remade from the per-image scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from neuroaug.cli.console import command, log, start_in_study
from neuroaug.cli.options import HARDWARE, Device, StudyFolder, option
from neuroaug.errors import InputError

if TYPE_CHECKING:
    from neuroaug.config import Cell
    from neuroaug.study import Study

RUNS = "Which runs"


@command(
    "evaluate", epilog="Example: neuroaug evaluate --cell train-50_baseline_2mm_real+synthetic-5000"
)
def evaluate(
    study: StudyFolder = None,
    cell: Annotated[
        list[str] | None, option("--cell", "Only these cells, space separated.", RUNS)
    ] = None,
    run: Annotated[
        list[int] | None, option("--run", "Only these runs (from 0), space separated.", RUNS)
    ] = None,
    n_procs: Annotated[int, option("--n-procs", "Runs at a time.", HARDWARE)] = 1,
    omp_nthreads: Annotated[
        int | None, option("--omp-nthreads", "CPU threads per run.", HARDWARE)
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, option("--dry-run", "Prove that nothing leaks, estimate the time, stop.")
    ] = False,
    summary: Annotated[
        bool, option("--summary", "Only remake the tables from the scores there are.")
    ] = False,
) -> None:
    """Train and test ClinicaDL CNNs on real, synthetic and real + synthetic images."""
    opened = start_in_study("evaluate", study)
    config = opened.config
    cells = tuple(config.cell(name) for name in cell) if cell else config.cells()
    n_runs = config.evaluation.runs
    if bad := [k for k in run or () if not 0 <= k < n_runs]:
        raise InputError(f"--run {bad[0]}: this study has runs 0 to {n_runs - 1}")
    if not summary:
        from neuroaug.evaluation.prepare_runs import prepare, work_off

        todo = prepare(opened, cells, range(n_runs) if run is None else run)
        if dry_run:
            from neuroaug.workflow.stages.evaluate_stage import say_evaluation

            say_evaluation(opened, todo, n_procs)
            return
        work_off(todo, opened.cache / "evaluation", n_procs, n_threads=omp_nthreads, device=device)
        if run is not None:  # the tables are left to a later call
            log.info("%s", ", ".join(f"{one.cell.name} run {one.k}" for one in todo))
            return
    _summarise(opened, cells)


def _summarise(study: Study, asked: Sequence[Cell]) -> None:
    """Write ``results.tsv`` and ``comparisons.tsv`` of the study's cells and those asked for."""
    from neuroaug.evaluation.summarise import summarise_study

    known = dict.fromkeys((*study.config.cells(), *asked))
    cells = [cell for cell in known if list(study.cell(cell).glob("run-*/scores.tsv"))]
    if not cells:
        raise InputError(f"{study.root / 'evaluation'}: no run has ended yet; nothing to summarise")
    for note in summarise_study(study, cells).notes:
        log.info("%s", note)
    log.info("%s", study.results)
