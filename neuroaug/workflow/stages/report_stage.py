"""The report: one HTML file."""

from __future__ import annotations

from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, Job, Stage, key_of


class ReportStage(Stage):
    """``report.html``."""

    name = "report"

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """One job."""
        (summarise,) = earlier["summarise"]
        key = key_of("report", summarise.key)
        return [Job("report", ("report",), key, (summarise.name,))]
