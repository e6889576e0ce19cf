"""Run every study behind a learning curve, and put them together."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import pandas as pd

from neuroaug.cohort.split_cohort import split_cohort
from neuroaug.cohort.split_folder import SplitFolder
from neuroaug.cohort.unlabelled import read_unlabelled
from neuroaug.config import write_config
from neuroaug.errors import InputError, NeuroaugError
from neuroaug.imaging.caps import require_caps
from neuroaug.report import write_report
from neuroaug.study import CONFIG_NAME, Study
from neuroaug.system.files import write_tsv
from neuroaug.workflow.estimate import device_hours
from neuroaug.workflow.learning_curve.gather import summarise_curve
from neuroaug.workflow.learning_curve.points import (
    UNLABELLED,
    CurvePoint,
    arm_name,
    arms,
    curve_points,
)
from neuroaug.workflow.protocol import Protocol
from neuroaug.workflow.run_study import run
from neuroaug.workflow.stage import hours_text

log = logging.getLogger("neuroaug")


def run_curve(study: Study, *, cores: int | None = None, profile: str | None = None) -> list[str]:
    """Run the studies of a curve that are not done, then write its tables.

    Parameters
    ----------
    study : Study
        Its images are preprocessed.
    cores : int, optional
        CPU cores of the workflow.
    profile : str, optional
        Snakemake profile.

    Returns
    -------
    list of str
        What was found, one sentence each.

    Raises
    ------
    InputError
        No preprocessed images, or more people asked for than the splits have; no study of the curve
        is left half-made then.
    """
    require_caps(study.caps)
    points = curve_points(study)
    for point in points:
        _split(study, point)
    for k, point in enumerate(points, start=1):
        log.info("curve %d of %d: n = %d, split %d", k, len(points), point.n, point.split)
        run(point.study.root, None, cores=cores, profile=profile, quiet=True)
    found = summarise_curve(study, points)
    write_report(study)
    return found


def _split(study: Study, point: CurvePoint) -> None:
    """Draw a point's split, and list the people that its generator may learn from without label."""
    own = point.study
    if (own.splits / "split.json").is_file() and (own.root / CONFIG_NAME).is_file():
        return
    made = own.root.exists()
    try:
        own.root.mkdir(parents=True, exist_ok=True)
        drawn = split_cohort(own, own.config, typed=frozenset({"subsets"}))
        name = f"train-{point.n}"
        if name not in drawn.names():
            raise InputError(f"curve.n: {point.n}: the split has fewer people of a label")
        if own.config.generator.unlabelled is not None:
            write_tsv(own.root / UNLABELLED, _others(study, drawn, name))
        write_config(own.root / CONFIG_NAME, own.config)
    except NeuroaugError:
        if not made:
            shutil.rmtree(own.root, ignore_errors=True)
            _remove_if_empty(own.root.parent)
        raise


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _others(study: Study, drawn: SplitFolder, name: str) -> pd.DataFrame:
    """Training people of the split who are not among the n, and the study's own unlabelled."""
    whole, few = drawn.table("train"), drawn.table(name)
    rest = whole[~whole["participant_id"].isin(few["participant_id"])]
    rest = rest[[c for c in ("participant_id", "session_id", "age", "sex") if c in rest.columns]]
    if study.config.generator.unlabelled is None:
        return rest
    given = read_unlabelled(study.path(study.config.generator.unlabelled))
    tested = set(drawn.table("test")["participant_id"])
    tested |= set(drawn.table("validation")["participant_id"])
    known = tested | set(few["participant_id"]) | set(rest["participant_id"])
    given = given[~given["participant_id"].isin(known)].drop(columns="diagnosis")
    return pd.concat([rest, given], ignore_index=True)


def say_curve(study: Study) -> None:
    """Print what a curve would take, from steps measured now on this machine."""
    points = curve_points(study)
    names = ", ".join(arm_name(cell) for cell in arms(study))
    curve = study.config.curve
    print(
        f"{len(points)} studies: n = {', '.join(map(str, curve.n))} per label, "
        f"{curve.splits} splits, {curve.runs} runs of each cell"
    )
    print(f"arms and controls: {names}")
    total = 0.0
    for n in curve.n:
        (first, *_) = [point for point in points if point.n == n]
        hours = device_hours(Protocol(first.study))
        total += curve.splits * (0.0 if math.isnan(hours) else hours)
        print(f"n = {n}: about {hours_text(hours)} a split")
    print(f"about {hours_text(total)} of this machine in all; what is done is not done again")
