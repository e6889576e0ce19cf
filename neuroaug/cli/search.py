"""``neuroaug search``: random search of the classifier on the study's training set."""

from __future__ import annotations

from typing import Annotated

from neuroaug.cli.console import command, log, start_in_study
from neuroaug.cli.options import Device, ImageResolution, StudyFolder, Threads, option, overlay

SEARCH = "Search"


@command("search", epilog="Example: neuroaug search --trials 100")
def search(
    study: StudyFolder = None,
    trials: Annotated[int | None, option("--trials", "Random architectures.", SEARCH)] = None,
    folds: Annotated[int | None, option("--folds", "Cross-validation folds.", SEARCH)] = None,
    epochs: Annotated[int | None, option("--epochs", "Epochs per fold.", SEARCH)] = None,
    resolution: ImageResolution = None,
    omp_nthreads: Threads = None,
    device: Device = "auto",
) -> None:
    """Random search of the classifier on the training set. Resumes; may run in parallel."""
    opened = start_in_study("search", study)
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
