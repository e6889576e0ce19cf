"""``neuroaug preprocess``: raw scans, or a CAPS of Clinica's, become what networks read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from neuroaug.cli.console import command, log, start
from neuroaug.cli.options import (
    FILES,
    HARDWARE,
    Caps,
    Part,
    Quiet,
    Verbose,
    choice,
    config_of,
    literals,
    overlay,
    part,
)
from neuroaug.config import PreprocessingConfig, Resolution
from neuroaug.errors import InputError

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
    bids: Annotated[
        Path | None, typer.Option("--bids", help="Raw images.", rich_help_panel=FILES)
    ] = None,
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label",
            help="Only these, space separated; 'sub-' optional.",
            rich_help_panel=VISITS,
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option(
            "--session-label",
            help="Only these, space separated; 'ses-' optional.",
            rich_help_panel=VISITS,
        ),
    ] = None,
    visits: Annotated[
        Path | None,
        typer.Option(
            "--visits", help="TSV of participant_id and session_id.", rich_help_panel=VISITS
        ),
    ] = None,
    bids_filter_file: Annotated[
        Path | None,
        typer.Option("--bids-filter-file", help="JSON, as fMRIPrep's.", rich_help_panel=VISITS),
    ] = None,
    profile: Annotated[
        str | None,
        choice(
            "--profile",
            literals(PreprocessingConfig, "profile"),
            "Precision of the registration",
            panel=PROCESSING,
        ),
    ] = None,
    n4_distance: Annotated[
        int | None,
        choice(
            "--n4-distance",
            literals(PreprocessingConfig, "n4_distance"),
            "N4 spline distance in mm (Clinica 0.12 has 200, up to 0.11.3 600)",
            panel=PROCESSING,
        ),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template", help="Full-head template on the MNI grid.", rich_help_panel=PROCESSING
        ),
    ] = None,
    resolution: Annotated[
        list[str] | None,
        choice(
            "--resolution",
            get_args(Resolution),
            "Grids to write, space separated; 1mm always",
            panel=PROCESSING,
        ),
    ] = None,
    n_procs: Annotated[
        int | None, typer.Option("--n-procs", help="Visits at a time.", rich_help_panel=HARDWARE)
    ] = None,
    omp_nthreads: Annotated[
        int,
        typer.Option("--omp-nthreads", help="ANTs threads per visit.", rich_help_panel=HARDWARE),
    ] = 1,
    mem_mb: Annotated[
        int | None,
        typer.Option("--mem-mb", help="Memory budget in MB.", rich_help_panel=HARDWARE),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", help="Scratch folder.", rich_help_panel=FILES)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="CAPS for added copies where CAPS is read-only.",
            rich_help_panel=FILES,
        ),
    ] = None,
    rerun_failed: Annotated[
        bool,
        typer.Option("--rerun-failed", help="Try failed visits again.", rich_help_panel=VISITS),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the estimated hours.")
    ] = False,
    part_of_all: Annotated[
        Part | None,
        part("--part", "i/n: these participants only, for job arrays.", panel=VISITS),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """N4, affine registration to MNI, crop, 2 mm and 4 mm copies: a CAPS as Clinica writes it."""
    study = start("preprocess", verbose, quiet)
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
    raise typer.Exit(1 if summary.n_failed and not dry_run else 0)


def _resolutions(study: Study | None, typed: list[str] | None) -> tuple[str, ...] | None:
    """Resolutions typed, or those of the study with the one that it evaluates; None: as set."""
    if typed:
        return tuple(dict.fromkeys(("1mm", *typed)))
    if study is None or study.config.resolution in study.config.preprocessing.resolutions:
        return None
    wanted = (*study.config.preprocessing.resolutions, study.config.resolution)
    return tuple(dict.fromkeys(("1mm", *wanted)))


def _say(summary: PreprocessSummary, target: Path) -> None:
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
