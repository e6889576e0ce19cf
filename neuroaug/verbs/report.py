"""``neuroaug report``: one HTML file."""

from __future__ import annotations

import logging
from pathlib import Path

from neuroaug.report import write_report
from neuroaug.study import Study

log = logging.getLogger("neuroaug")


def report(study: Study, *, out: Path | None = None) -> Path:
    """Write the study's report; sections of stages that have not run say so."""
    path = out or study.report
    write_report(study, path)
    log.info("%s", path)
    return path
