"""The report: one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuroaug.study import Study
from neuroaug.system.files import sha256_json
from neuroaug.workflow.stage import Job, Stage


class ReportStage(Stage):
    """``report.html``."""

    name = "report"

    def jobs(self, study: Study, earlier: Mapping[str, Sequence[Job]]) -> list[Job]:
        """One job."""
        (summarise,) = earlier["summarise"]
        key = sha256_json(["report", summarise.key])
        return [Job("report", ("report",), key, (summarise.name,))]
