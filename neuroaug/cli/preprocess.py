"""``neuroaug preprocess``: raw scans, or a CAPS of Clinica's, become what networks read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from neuroaug.cli.console import command, log, say_next, start
from neuroaug.cli.options import (
    FILES,
    HARDWARE,
    Caps,
    Part,
    choice,
    config_of,
    literals,
    option,
    overlay,
    part,
)
from neuroaug.config import PreprocessingConfig, Resolution
from neuroaug.errors import InputError
from neuroaug.preprocessing.refusal import tell_refusals

if TYPE_CHECKING:
    from neuroaug.preprocessing.preprocess import PreprocessSummary
    from neuroaug.study import Study

VISITS, PROCESSING = "Which visits", "Processing"


@command(
    "preprocess",
    epilog="Example: neuroaug preprocess /data/adni_caps --bids /data/adni_bids "
    "--participant-label 01 02 --n-procs 8",
)
def preprocess(
    caps: Caps = None,
    bids: Annotated[Path | None, option("--bids", "Raw images.", FILES)] = None,
    participant_label: Annotated[
        list[str] | None,
        option("--participant-label", "Only these, space separated; 'sub-' optional.", VISITS),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        option("--session-label", "Only these, space separated; 'ses-' optional.", VISITS),
    ] = None,
    visits: Annotated[
        Path | None, option("--visits", "TSV of participant_id and session_id.", VISITS)
    ] = None,
    bids_filter_file: Annotated[
        Path | None, option("--bids-filter-file", "JSON, as fMRIPrep's.", VISITS)
    ] = None,
    profile: Annotated[
        str | None,
        choice(
            "--profile",
            literals(PreprocessingConfig, "profile"),
            "Precision of the registration",
            PROCESSING,
        ),
    ] = None,
    n4_distance: Annotated[
        int | None,
        choice(
            "--n4-distance",
            literals(PreprocessingConfig, "n4_distance"),
            "N4 spline distance in mm (Clinica 0.12 has 200, up to 0.11.3 600)",
            PROCESSING,
        ),
    ] = None,
    template: Annotated[
        Path | None,
        option(
            "--template", "T1w template on the MNI grid: a head, or a brain for brains.", PROCESSING
        ),
    ] = None,
    resolution: Annotated[
        list[str] | None,
        choice(
            "--resolution",
            get_args(Resolution),
            "Grids to write, space separated; 1mm always",
            PROCESSING,
        ),
    ] = None,
    n_procs: Annotated[int | None, option("--n-procs", "Visits at a time.", HARDWARE)] = None,
    omp_nthreads: Annotated[int, option("--omp-nthreads", "ANTs threads per visit.", HARDWARE)] = 1,
    mem_mb: Annotated[int | None, option("--mem-mb", "Memory budget in MB.", HARDWARE)] = None,
    work_dir: Annotated[Path | None, option("--work-dir", "Scratch folder.", FILES)] = None,
    out: Annotated[
        Path | None, option("--out", "CAPS for added copies where CAPS is read-only.", FILES)
    ] = None,
    rerun_failed: Annotated[
        bool, option("--rerun-failed", "Try failed visits again.", VISITS)
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", "Print the plan and the estimated hours.")
    ] = False,
    part_of_all: Annotated[
        Part | None, part("--part", "i/n: these participants only, for job arrays.", VISITS)
    ] = None,
) -> None:
    """N4, affine registration to MNI, crop, 2 mm and 4 mm copies: a CAPS as Clinica writes it."""
    study = start("preprocess")
    if study is not None and caps is None:
        caps, bids = study.caps, bids or study.bids
    if caps is None:
        raise InputError("preprocess: outside a study, a CAPS folder is needed")
    config = overlay(
        config_of(study).preprocessing,
        profile=profile,
        n4_distance=n4_distance,
        template=str(template) if template else None,
        resolutions=_resolutions(study, resolution),
    )
    from neuroaug.preprocessing.preprocess import preprocess as preprocess_visits

    summary = preprocess_visits(
        caps,
        bids=bids,
        participants=participant_label,
        sessions=session_label,
        visits_tsv=visits,
        bids_filter=bids_filter_file,
        config=config,
        n_procs=n_procs or 1,
        omp_nthreads=omp_nthreads,
        mem_mb=mem_mb,
        work_dir=work_dir,
        out=out,
        rerun_failed=rerun_failed,
        dry_run=dry_run,
        part=part_of_all or Part(1, 1),
    )
    if not dry_run:
        _say(summary, out or caps)
        if study is not None and summary.n_ok + summary.n_skipped:
            say_next("neuroaug split")
    raise typer.Exit(1 if summary.n_failed and not dry_run else 0)


def _resolutions(study: Study | None, typed: list[str] | None) -> tuple[str, ...] | None:
    """Resolutions typed, or those of the study with the one that it evaluates; None: as set."""
    config = config_of(study)
    kept = config.preprocessing.resolutions
    if not typed and (study is None or config.resolution in kept):
        return None
    return tuple(dict.fromkeys(("1mm", *(typed or (*kept, config.resolution)))))


def _say(summary: PreprocessSummary, target: Path) -> None:
    left_out = tell_refusals(summary.failures)
    counts = summary.n_ok, left_out, summary.n_skipped
    log.info("%s: %d visits done, %s, %d were done before", target, *counts)
    if summary.n_failed:
        log.info("who, and why: %s", target / "failures.tsv")
    if summary.n_rejected:
        log.info(
            "%d did not pass the quality check: look at %s", summary.n_rejected, target / "qc.html"
        )
