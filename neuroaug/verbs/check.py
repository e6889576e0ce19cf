"""``neuroaug check``: what is wrong with a data set, before hours are spent."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import typer

from neuroaug.dataset_check.check_files import check as check_dataset
from neuroaug.system.threads import n_cores

log = logging.getLogger("neuroaug")


def check(dataset: Path, *, as_json: bool = False, n_procs: int | None = None) -> int:
    """Print every finding; 0 on a clean data set, 1 where faults were found. Writes nothing."""
    findings = check_dataset(dataset, n_procs=n_procs or n_cores())
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.severity}: {finding.path}: {finding.message}; {finding.fix}")
    faults = sum(finding.severity == "error" for finding in findings)
    log.info("%s: %d error(s), %d warning(s)", dataset, faults, len(findings) - faults)
    return 1 if faults else 0
