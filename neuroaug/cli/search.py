"""``neuroaug search``: random search of the classifier on the study's training set."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroaug.cli.console import command, log, start_in_study
from neuroaug.cli.options import (
    Device,
    ImageResolution,
    Quiet,
    StudyFolder,
    Threads,
    Verbose,
    overlay,
)

SEARCH = "Search"


@command("search", epilog="Example: neuroaug search --trials 100")
def search(
    study: StudyFolder = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Random architectures.", rich_help_panel=SEARCH)
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", help="Cross-validation folds.", rich_help_panel=SEARCH)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Epochs per fold.", rich_help_panel=SEARCH)
    ] = None,
    resolution: ImageResolution = None,
    omp_nthreads: Threads = None,
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Random search of the classifier on the training set. Resumes; may run in parallel."""
    opened = start_in_study("search", verbose, quiet, study)
    config = overlay(
        opened.config.search, {"draws": "--trials"}, draws=trials, folds=folds, epochs=epochs
    )
    from neuroaug.evaluation.study_search import search_study

    path = search_study(
        opened,
        config,
        resolution=resolution or opened.config.resolution,
        device=device,
        n_threads=omp_nthreads,
    )
    log.info("%s: best of %d trials in %d folds", path, config.draws, config.folds)
