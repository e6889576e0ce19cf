"""The studies behind a learning curve: one for every number of people and split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuroaug.config import Cell, StudyConfig
from neuroaug.report.curve_section import FOLDER
from neuroaug.study import Study

CONTROLS = ("real", "real+classical")
"""Data of the cells that stand beside the arms, with the study's network."""

LINEAR = "linear"
UNLABELLED = "unlabelled.tsv"


@dataclass(frozen=True)
class CurvePoint:
    """One study of a curve: n people per label of one split.

    Attributes
    ----------
    n : int
        Real people per label.
    split : int
        Number of the split, from 0; its seed is the study's plus this.
    study : Study
        Its folder, ``curve/n-N_split-S``, and configuration.
    """

    n: int
    split: int
    study: Study


def arms(study: Study) -> tuple[Cell, ...]:
    """Cells of a curve: what was asked for, then the controls, each once."""
    config = study.config
    asked = [config.cell(name) for name in config.curve.cells or config.evaluation.cells]
    network = config.cell("real")
    beside = [network.model_copy(update={"data": data}) for data in CONTROLS]
    beside.append(network.model_copy(update={"network": LINEAR}))
    return tuple(dict.fromkeys(_of_set(cell, "train") for cell in (*asked, *beside)))


def arm_name(cell: Cell) -> str:
    """An arm's name, whatever the training set: ``baseline_4mm_real+synthetic-500``."""
    return cell.name.removeprefix(f"{cell.split}_")


def is_control(cell: Cell) -> bool:
    """Whether an arm has real images and labels alone."""
    return not cell.n_synthetic and not cell.asks_law


def curve_points(study: Study) -> list[CurvePoint]:
    """Every study of the curve, all splits of the fewest people first."""
    curve = study.config.curve
    return [_point(study, n, split) for n in curve.n for split in range(curve.splits)]


def _of_set(cell: Cell, split: str) -> Cell:
    return cell.model_copy(update={"split": split})


def _point(study: Study, n: int, split: int) -> CurvePoint:
    config, curve = study.config, study.config.curve
    root = study.root / FOLDER / f"n-{n}_split-{split}"
    name = f"train-{n}"
    cells = [_of_set(cell, name).name for cell in arms(study)]
    asked = {
        "caps": str(study.caps),
        "bids": None,
        "phantom": None,
        "tables": str(study.tables),
        "external": {},
        "split": {
            **config.split.model_dump(),
            "default": name,
            "subsets": (n,),
            "seed": config.split.seed + split,
        },
        "evaluation": {
            **config.evaluation.model_dump(),
            "cells": cells,
            "runs": curve.runs,
            "runs_per_job": curve.runs,
        },
    }
    if config.generator.shared:
        generator = {**config.generator.model_dump(), "unlabelled": UNLABELLED}
        asked["generator"] = generator
    content = {**config.model_dump(exclude={"curve"}), **asked}
    if study.config.phantom is not None and isinstance(content["labels"], tuple | list):
        content["cohort"] = study.config.phantom.cohort
    return CurvePoint(n, split, Study(root, StudyConfig.model_validate(content)))


def curve_folder(study: Study) -> Path:
    """Folder of a study's curve."""
    return study.root / FOLDER
