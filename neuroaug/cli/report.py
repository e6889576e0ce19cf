"""``neuroaug report``: one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from neuroaug.cli.console import command, log, start_in_study
from neuroaug.cli.options import FILES, StudyFolder, option


@command("report", epilog="Example: neuroaug report /studies/adni")
def report(
    study: StudyFolder = None,
    out: Annotated[
        Path | None, option("--out", "HTML file (default: the study's report.html).", FILES)
    ] = None,
) -> None:
    """Write one self-contained HTML file: results, curves, montages, proofs, versions."""
    opened = start_in_study("report", study)
    from neuroaug.report import write_report

    path = out or opened.report
    write_report(opened, path)
    log.info("%s", path)
