"""``neuroaug report``: one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command, log, start_in_study
from neuroaug.cli.options import FILES, Quiet, StudyFolder, Verbose


@command("report", epilog="Example: neuroaug report /studies/adni")
def report(
    study: StudyFolder = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="HTML file (default: the study's report.html).", rich_help_panel=FILES
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML file: results, curves, montages, proofs, versions."""
    opened = start_in_study("report", verbose, quiet, study)
    from neuroaug.report import write_report

    path = out or opened.report
    write_report(opened, path)
    log.info("%s", path)
