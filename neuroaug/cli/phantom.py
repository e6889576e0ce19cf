"""``neuroaug phantom``: the embedded cohort of a study, or in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command, log, start
from neuroaug.cli.options import HARDWARE, Seed, choice, config_of, literals, option, overlay
from neuroaug.config import PhantomConfig
from neuroaug.errors import InputError

RESOLUTION = "4mm"
KIND = "phantom made on the grid"


@command("phantom", epilog="Example: neuroaug phantom /tmp/phantoms --participants 12", hidden=True)
def phantom(
    folder: Annotated[
        Path | None, typer.Argument(help="BIDS folder to make (default: the study's).")
    ] = None,
    participants: Annotated[int | None, option("--participants", "How many participants.")] = None,
    seed: Seed = None,
    cohort: Annotated[
        str | None,
        choice("--cohort", literals(PhantomConfig, "cohort"), "Cohort whose tables it imitates"),
    ] = None,
    n_procs: Annotated[int, option("--n-procs", "Processes.", HARDWARE)] = 1,
) -> None:
    """Make the embedded cohort: raw BIDS of phantoms, no patient in it."""
    study = start("phantom")
    if folder is None and study is not None:
        folder = study.bids
    if folder is None:
        raise InputError("phantom: give the BIDS folder to make")
    config = overlay(
        config_of(study).phantom or PhantomConfig(),
        {"n_participants": "--participants"},
        n_participants=participants,
        seed=seed,
        cohort=cohort,
    )
    from neuroaug.phantom.phantom_cohort import RegisteredFolders, make_cohort

    registered = None
    if study is not None and config.scanned is not None:
        if study.config.resolution != RESOLUTION:
            raise InputError(
                f"phantom.scanned: phantoms without a scan exist at {RESOLUTION} only, the study's "
                f"resolution is {study.config.resolution}; set resolution: {RESOLUTION}, or leave "
                "scanned out"
            )
        registered = RegisteredFolders(study.caps, study.path(study.config.tables))
    made = make_cohort(folder, **config.model_dump(), n_procs=n_procs, registered=registered)
    log.info("%s: %d phantom participants", folder, config.n_participants)
    if registered is not None and made.on_grid:
        from neuroaug.preprocessing.records import accept_unregistered

        accept_unregistered(registered.caps, made.on_grid, KIND)
        log.info(
            "%d of them have a raw scan in %s; the images of the other %d were made directly on "
            "the %s grid in %s and do not go through preprocessing",
            config.n_participants - len(made.on_grid),
            folder,
            len(made.on_grid),
            RESOLUTION,
            registered.caps,
        )
