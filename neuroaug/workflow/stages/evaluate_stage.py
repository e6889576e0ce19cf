"""The CNN runs: every cell, ``evaluation.runs_per_job`` runs per job."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from neuroaug.config import OPTIMISED, Cell, StudyConfig
from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, EstimateLine, Job, Resources, Stage, hours_text, key_of
from neuroaug.workflow.stages.preprocess_stage import COARSER
from neuroaug.workflow.stages.search_stage import classifier_step_seconds
from neuroaug.workflow.stages.split_stage import n_per_label, rehearsed_set, tables_listing
from neuroaug.workflow.stages.train_stage import generators

if TYPE_CHECKING:
    from neuroaug.evaluation.runs import Run

# What decides which runs there are, but not what one of them is.
NOT_OF_A_RUN = {"cells", "runs", "runs_per_job", "epochs", "optimised_epochs"}
REHEARSED_IMAGES = 2  # the smallest number of synthetic images per label, and between two numbers


class EvaluateStage(Stage):
    """Training and test of classifiers."""

    name = "evaluate"
    resources: ClassVar[Resources] = {"gpu": 1, "mem_mb": 32000}

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """A job per cell and group of runs."""
        config, (split,) = study.config, earlier["split"]
        external = [
            [name, given.model_dump(mode="json"), tables_listing(study.path(given.tables))]
            for name, given in sorted(config.external.items())
        ]
        sets = {job.name: job for job in earlier["augment"]}
        trained = {job.name: job for job in earlier["train"]}
        jobs = []
        for cell in config.cells():
            asked = config.evaluation.model_dump(mode="json", exclude=NOT_OF_A_RUN)
            asked["epochs"] = config.evaluation.epochs_of(cell.network)
            searches: list[Job] = []
            if cell.network == OPTIMISED:
                found_by = f"search_{cell.resolution}_"
                searches = [job for job in earlier["search"] if job.name.startswith(found_by)]
            for runs in _groups(config):
                group = f"{runs[0]}-{runs[-1]}" if len(runs) > 1 else str(runs[0])
                taken = generators(config, cell, runs)
                stage, made = ("augment", sets) if cell.n_synthetic else ("train", trained)
                used = [made[f"{stage}_{s}_{label}_{seed}"] for s, label, seed in taken]
                products = [job.key if stage == "train" else job.product for job in used]
                products += [job.product for job in searches[:1]]
                key = key_of(cell.name, asked, external, products, split.key, group)
                which = ("--cell", cell.name, "--run", *map(str, runs))
                command = ("evaluate", *which, "--omp-nthreads", "{threads}")
                after = tuple(job.name for job in (split, *used, *searches))
                jobs.append(Job(f"evaluate_{cell.name}_runs-{group}", command, key, after))
        return jobs

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """Every cell, with two short runs on a few images."""
        return {
            "evaluation": {
                **config.evaluation.model_dump(),
                "runs": min(2, config.evaluation.runs),
                "runs_per_job": 2,
                "epochs": 2,
                "optimised_epochs": 1,
                "batch_size": 4,
                "cells": list(dict.fromkeys(_rehearsed_cells(config))),
            }
        }

    def estimate(self, study: Study, jobs: Sequence[Job]) -> list[EstimateLine]:
        """Cells and runs, and the hours of all runs."""
        cells = study.config.cells()
        hours = evaluation_hours(study, cells)
        n, note = len(cells) * study.config.evaluation.runs, f"about {hours_text(hours)}"
        return [EstimateLine("cells", len(cells)), EstimateLine("CNN runs", n, note, hours)]


def _groups(config: StudyConfig) -> list[range]:
    """Runs of a cell, in groups that one job works off."""
    n, size = config.evaluation.runs, config.evaluation.runs_per_job
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def _rehearsed_cells(config: StudyConfig) -> list[str]:
    """Cells with another set, resolution and number of images; the numbers' order stays."""
    numbers = sorted({n for cell in config.cells() for n in _sizes(cell)} - {0})
    images = {str(n): str(REHEARSED_IMAGES * (i + 1)) for i, n in enumerate(numbers)}
    return [
        cell.model_copy(
            update={
                "split": rehearsed_set(config, cell.split),
                "resolution": COARSER[cell.resolution],
                "data": re.sub(
                    r"(?<=synthetic-)\d+|(?<=duplicates-)\d+", lambda n: images[n[0]], cell.data
                ),
            }
        ).name
        for cell in config.cells()
    ]


def _sizes(cell: Cell) -> tuple[int, int]:
    return cell.n_synthetic, cell.n_duplicates


def evaluation_hours(study: Study, cells: Sequence[Cell]) -> float:
    """Hours of all runs of some cells on this machine's device, one after another."""
    config = study.config.evaluation
    seconds = 0.0
    for cell in cells:
        steps = (
            config.runs
            * cell.n_members
            * config.epochs_of(cell.network)
            * _steps_per_epoch(study, cell)
        )
        seconds += steps * classifier_step_seconds(study, cell.network, cell.resolution)
    return seconds / 3600


def _steps_per_epoch(study: Study, cell: Cell) -> int:
    real = n_per_label(study, cell.split)
    n = (real if cell.uses_real else 0) + cell.n_synthetic + cell.n_duplicates
    if cell.steps == "matched":
        n = real
    return math.ceil(len(study.config.class_labels) * n / study.config.evaluation.batch_size)


def say_evaluation(study: Study, runs: Sequence[Run], n_procs: int) -> None:
    """Print what ``neuroaug evaluate`` would do."""
    cells = tuple(dict.fromkeys(run.cell for run in runs))
    hours = hours_text(evaluation_hours(study, cells))
    print(
        f"{len(runs)} runs in {len(cells)} cells, {n_procs} at a time; "
        "no generator saw a test participant"
    )
    print(f"about {hours} of this machine's device, for all runs of these cells")
