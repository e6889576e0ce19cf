"""``neuroaug phantom``: the embedded cohort of a study, or in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command, log, start
from neuroaug.cli.options import HARDWARE, Seed, choice, config_of, literals, option, overlay
from neuroaug.config import PhantomConfig
from neuroaug.errors import InputError


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
    from neuroaug.phantom.phantom_cohort import make_cohort

    make_cohort(folder, **config.model_dump(), n_procs=n_procs)
    log.info("%s: %d phantom participants", folder, config.n_participants)
