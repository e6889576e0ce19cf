"""``neuroaug curve``: learning curves, and what synthetic images are worth in patients."""

from __future__ import annotations

from typing import Annotated

from neuroaug.cli.console import command, log, start_in_study
from neuroaug.cli.options import HARDWARE, Cores, StudyFolder, option, overlay

WHAT = "What is compared"


@command("curve", epilog="Example: neuroaug curve --n 5 10 20 --cell real+synthetic-500")
def curve(
    study: StudyFolder = None,
    n: Annotated[
        list[int] | None, option("--n", "Real people per label, several space separated.", WHAT)
    ] = None,
    splits: Annotated[int | None, option("--splits", "Splits of the cohort.", WHAT)] = None,
    runs: Annotated[int | None, option("--runs", "Runs of each cell in each split.", WHAT)] = None,
    cell: Annotated[
        list[str] | None, option("--cell", "Arms (default: the study's cells).", WHAT)
    ] = None,
    cores: Cores = None,
    profile: Annotated[
        str | None, option("--profile", "Snakemake profile: slurm, or a folder.", HARDWARE)
    ] = None,
    dry_run: Annotated[
        bool, option("--dry-run", "Print what it would take on this machine, stop.")
    ] = False,
) -> None:
    """Learning curves: what synthetic images are worth in patients. Resumes."""
    opened = start_in_study("curve", study)
    from neuroaug.study import Study
    from neuroaug.workflow.learning_curve.points import curve_folder
    from neuroaug.workflow.learning_curve.run_curve import run_curve, say_curve

    section = overlay(
        opened.config.curve,
        {"n": "--n", "cells": "--cell"},
        n=tuple(n) if n else None,
        splits=splits,
        runs=runs,
        cells=tuple(cell) if cell else None,
    )
    asked = Study(opened.root, opened.config.model_copy(update={"curve": section}))
    if dry_run:
        say_curve(asked)
        return
    for sentence in run_curve(asked, cores=cores, profile=profile):
        log.info("%s", sentence)
    log.info("%s", curve_folder(asked))
