"""``neuroaug init``: from a folder of scans to a study's configuration."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuroaug.cli.console import command, log
from neuroaug.cli.options import FILES, ImageResolution, option

if TYPE_CHECKING:
    from neuroaug.new_study.survey import Survey


@command("init", epilog="Example: neuroaug init /data/depression_bids --out depression")
def init(
    data: Annotated[Path, typer.Argument(help="A BIDS or CAPS folder.")],
    out: Annotated[
        Path | None,
        option("--out", "Folder of the new study (default: <name of the data>-study).", FILES),
    ] = None,
    tables: Annotated[
        Path | None,
        option("--tables", "Folder with participants.tsv, or a table (default: the data).", FILES),
    ] = None,
    resolution: ImageResolution = None,
) -> None:
    """Look at scans and tables, and write a commented neuroaug.yaml that fits them."""
    from neuroaug.new_study.configuration import write_study
    from neuroaug.new_study.survey import survey
    from neuroaug.system.devices import find_devices

    found = survey(data, tables)
    study = out or Path(f"{found.data.name}-study")
    if resolution is None:
        resolution = "4mm" if find_devices("auto").first.type == "cpu" else "2mm"
    path = write_study(found, study, resolution)
    _say(found)
    log.info("written: %s (look at it: labels and classes are guesses)", path)
    first = "preprocess" if found.kind == "bids" else "split"
    if found.labelled is None:
        log.info("next: write labels: into %s; then neuroaug %s", path, first)
    else:
        log.info("next: cd %s && neuroaug %s", shlex.quote(str(study)), first)


def _say(found: Survey) -> None:
    """Tell what was found."""
    from neuroaug.config.label_settings import CUSTOM
    from neuroaug.new_study.survey import FEW

    kind = "raw scans (BIDS)" if found.kind == "bids" else "preprocessed images (CAPS)"
    n_people, n_visits = len(found.people), len(found.visits)
    log.info("%s: %s of %d people, %d visits", found.data, kind, n_people, n_visits)
    if found.sessions:
        most = list(found.sessions.items())[:5]
        more = ", ..." if len(found.sessions) > len(most) else ""
        log.info("sessions: %s%s", ", ".join(f"{name} {n}" for name, n in most), more)
    if found.without_scan:
        log.info("%d people of the tables have no scan here", found.without_scan)
    if found.refused:
        log.info("%d people, visits or rows cannot be used: see neuroaug check", found.refused)
    own = "one of your own" if found.cohort == CUSTOM else found.cohort
    log.info("cohort: %s", own)
    for candidate in found.found:
        log.info("may be the label: %s", candidate.text())
    if found.cohort == CUSTOM and not found.found:
        log.warning("%s: no column that looks like a label", found.tables)
    for problem in found.problems:
        log.warning("%s", problem)
    if found.labelled is None:
        return
    for line in (*found.labelled.account.lines(), *found.labelled.notes):
        log.info("%s", line)
    counts = found.counts
    log.info("with an image: %s", ", ".join(f"{n} {label}" for label, n in counts.items()))
    if few := [label for label, n in counts.items() if n < FEW]:
        log.warning(
            "fewer than %d people of %s: little can be learned of them, and so few test people "
            "show no difference that could be expected",
            FEW,
            ", ".join(few),
        )
