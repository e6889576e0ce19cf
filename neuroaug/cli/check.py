"""``neuroaug check``: what is wrong with a data set, before hours are spent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroaug.cli.console import command, configure_messages, log, start
from neuroaug.cli.options import Processes, option

if TYPE_CHECKING:
    from neuroaug.dataset_check.finding import Finding

_MOST_ALIKE, _SHOWN_ALIKE = 5, 3


@command("check", epilog="Example: neuroaug check /data/adni_bids --json")
def check(
    dataset: Annotated[
        Path, typer.Argument(help="A BIDS or CAPS folder, or a study.", show_default=False)
    ] = Path(),
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
        for line in _lines(findings):
            typer.echo(line)
    faults = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    log.info("%s: %d error(s), %d warning(s)", dataset, faults, warnings)
    raise typer.Exit(1 if faults else 0)


def _lines(findings: list[Finding]) -> Iterator[str]:
    """One line a finding; of many warnings that say the same, the first few and their number."""
    alike = Counter(_what(finding) for finding in findings)
    told: Counter[tuple[str, str, str]] = Counter()
    for finding in findings:
        what = _what(finding)
        told[what] += 1
        n = alike[what]
        many = finding.severity == "warning" and n > _MOST_ALIKE
        if many and told[what] > _SHOWN_ALIKE:
            continue
        fix = f"; {finding.fix}" if finding.fix else ""
        yield f"{finding.severity}: {finding.path}: {finding.message}{fix}"
        if many and told[what] == _SHOWN_ALIKE:
            yield f"{finding.severity}: ... and {n - _SHOWN_ALIKE} more of these (all: --json)"


def _what(finding: Finding) -> tuple[str, str, str]:
    return finding.severity, finding.message, finding.fix
