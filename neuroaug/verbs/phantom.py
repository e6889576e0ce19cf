"""The embedded cohort of a study, or in a folder of its own."""

from __future__ import annotations

import logging
from pathlib import Path

from neuroaug.config import PhantomConfig
from neuroaug.errors import InputError
from neuroaug.phantom.phantom_cohort import make_cohort
from neuroaug.study import Study

log = logging.getLogger("neuroaug")


def phantom(
    study: Study | None,
    folder: Path | None,
    *,
    participants: int | None = None,
    seed: int | None = None,
    cohort: str | None = None,
    n_procs: int = 1,
) -> None:
    """Make the embedded cohort: raw scans and clinical tables of phantoms."""
    if folder is None and study is not None:
        folder = study.bids
    if folder is None:
        raise InputError("phantom: give the BIDS folder to make")
    config = (study.config.phantom if study is not None else None) or PhantomConfig()
    n = config.n_participants if participants is None else participants
    seed = config.seed if seed is None else seed
    make_cohort(
        folder, n_participants=n, seed=seed, n_procs=n_procs, cohort=cohort or config.cohort
    )
    log.info("%s: %d phantom participants", folder, n)
