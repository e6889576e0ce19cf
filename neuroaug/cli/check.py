"""``neuroaug check``: what is wrong with a data set, before hours are spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command, configure_messages, log, start
from neuroaug.cli.options import Processes, option


@command("check", epilog="Example: neuroaug check /data/adni_bids --json")
def check(
    dataset: Annotated[Path, typer.Argument(help="A BIDS or CAPS folder.")],
    as_json: Annotated[bool, option("--json", "Machine-readable findings.")] = False,
    n_procs: Processes = None,
) -> None:
    """Find every unreadable or inconsistent file before hours are spent."""
    if as_json:
        configure_messages(quiet=True)
    start("check")
    from neuroaug.dataset_check.check_cohort import check_cohort
    from neuroaug.dataset_check.check_files import check as check_dataset
    from neuroaug.system.threads import n_cores

    findings = [*check_dataset(dataset, n_procs=n_procs or n_cores()), *check_cohort(dataset)]
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            fix = f"; {finding.fix}" if finding.fix else ""
            typer.echo(f"{finding.severity}: {finding.path}: {finding.message}{fix}")
    faults = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    log.info("%s: %d error(s), %d warning(s)", dataset, faults, warnings)
    raise typer.Exit(1 if faults else 0)
