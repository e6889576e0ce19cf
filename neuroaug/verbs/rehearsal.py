"""A rehearsal: every cell and stage of a configuration, on phantoms, cut down to minutes.

Before weeks of a cluster are spent on a grid of cells, one wants to see that each of them runs to
the end. What it finds means nothing: two runs of one or two epochs on a handful of phantoms.
"""

from __future__ import annotations

import re

from neuroaug.config import Cell, PhantomConfig, StudyConfig

N_PARTICIPANTS = 36
COARSER = {"1mm": "2mm", "2mm": "4mm", "4mm": "4mm"}
SMALLEST_SUBSET = 6  # a generator is not learned from fewer than five
SYNTHETIC_STEP = 2


def rehearse(config: StudyConfig) -> tuple[StudyConfig, list[str]]:
    """Cut a configuration down.

    Parameters
    ----------
    config : StudyConfig
        What is to be run one day.

    Returns
    -------
    config : StudyConfig
        Phantoms in the layout of the same cohort; every resolution one step coarser, every training
        subset and number of synthetic images replaced by a small one (the order stays), two runs of
        a cell, one or two epochs, a search of two draws. Cells stay as many, unless two become one
        by this.
    notes : list of str
        What was left out.
    """
    subsets = {k: SMALLEST_SUBSET + i for i, k in enumerate(sorted(set(config.split.subsets)))}
    numbers = sorted({cell.n_synthetic for cell in config.cells()} - {0})
    images = {n: SYNTHETIC_STEP * (i + 1) for i, n in enumerate(numbers)}
    layout = config.cohort if config.cohort != "auto" else "adni"
    changes = {
        "phantom": PhantomConfig(n_participants=N_PARTICIPANTS, cohort=layout).model_dump(),
        "bids": "bids",
        "caps": "caps",
        "tables": "bids",
        "cohort": layout,
        "external": {},
        "resolution": COARSER[config.resolution],
        "preprocessing": {"profile": "fast", "resolutions": ["1mm", "2mm", "4mm"]},
        "split": {
            **config.split.model_dump(),
            "default": _split(config.split.default, subsets),
            "n_test": 4,
            "validation": 0.2,
            "subsets": list(subsets.values()),
        },
        "generator": {
            **config.generator.model_dump(),
            "width": 4,
            "batch_size": 4,
            "max_epochs": 3,
            "validate_every": 3,
            "seeds": config.generator.seeds[:2],
        },
        "evaluation": {
            **config.evaluation.model_dump(),
            "runs": min(2, config.evaluation.runs),
            "runs_per_job": 2,
            "epochs": 2,
            "optimised_epochs": 1,
            "batch_size": 4,
            "cells": list(dict.fromkeys(_cell(cell, subsets, images) for cell in config.cells())),
        },
        "search": {
            **config.search.model_dump(),
            "draws": 2,
            "folds": 2,
            "epochs": 1,
            "jobs": min(2, config.search.jobs),
        },
    }
    notes = ["rehearsal: phantoms, and sizes cut down; what comes out means nothing"]
    if config.external:
        notes.append(
            f"rehearsal: the external test sets ({', '.join(config.external)}) are left out"
        )
    return StudyConfig.model_validate({**config.model_dump(), **changes}), notes


def _split(name: str, subsets: dict[int, int]) -> str:
    _, dash, k = name.partition("-")
    return f"train-{subsets.get(int(k), k)}" if dash else name


def _cell(cell: Cell, subsets: dict[int, int], images: dict[int, int]) -> str:
    data = re.sub(r"(?<=synthetic-)\d+", lambda n: str(images[int(n[0])]), cell.data)
    split = _split(cell.split, subsets)
    return cell.model_copy(
        update={"split": split, "resolution": COARSER[cell.resolution], "data": data}
    ).name
