"""``neuroaug preprocess``: raw scans, or a CAPS of Clinica's, become what networks read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.preprocessing.preprocess import preprocess as preprocess_visits
from neuroaug.study import Study
from neuroaug.synthesis.generate import parse_shard
from neuroaug.verbs.options import preprocessing_options

log = logging.getLogger("neuroaug")


def preprocess(
    study: Study | None,
    *,
    caps: Path | None,
    bids: Path | None,
    participants: list[str] | None,
    sessions: list[str] | None,
    visits: Path | None,
    bids_filter: Path | None,
    options: dict[str, Any],
    n_procs: int | None,
    omp_nthreads: int,
    mem_mb: int | None,
    work_dir: Path | None,
    out: Path | None,
    rerun_failed: bool,
    dry_run: bool,
    part: str | None = None,
) -> int:
    """Preprocess what is not preprocessed yet; 0 if all is done, 1 if some visits failed."""
    if study is not None:
        if (
            options.get("resolutions") is None
            and study.config.resolution not in study.config.preprocessing.resolutions
        ):
            options = {
                **options,
                "resolutions": [*study.config.preprocessing.resolutions, study.config.resolution],
            }
        if caps is None:
            caps, bids = study.caps, bids or study.bids
    if caps is None:
        raise InputError("preprocess: outside a study, a CAPS folder is needed")
    summary = preprocess_visits(
        caps,
        bids=bids,
        participants=participants,
        sessions=sessions,
        visits_tsv=visits,
        bids_filter=bids_filter,
        config=preprocessing_options(study, options),
        n_procs=n_procs or 1,
        omp_nthreads=omp_nthreads,
        mem_mb=mem_mb,
        work_dir=work_dir,
        out=out,
        rerun_failed=rerun_failed,
        dry_run=dry_run,
        part=parse_shard(part),
    )
    if dry_run:
        return 0
    target = out or caps
    log.info(
        "%s: %d visits done, %d failed, %d were done before",
        target,
        summary.n_ok,
        summary.n_failed,
        summary.n_skipped,
    )
    if summary.n_failed:
        log.info("why they failed: %s", target / "failures.tsv")
    if summary.n_rejected:
        log.info(
            "%d did not pass the quality check: look at %s", summary.n_rejected, target / "qc.html"
        )
    return 1 if summary.n_failed else 0
