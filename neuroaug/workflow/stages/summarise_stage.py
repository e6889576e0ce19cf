"""The tables of results, from the per-image scores of all runs."""

from __future__ import annotations

from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, Job, Stage, key_of


class SummariseStage(Stage):
    """``results.tsv`` and ``comparisons.tsv``."""

    name = "summarise"

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """One job."""
        runs = sorted(earlier["evaluate"], key=lambda job: job.name)
        key, after = key_of(*(job.key for job in runs)), tuple(job.name for job in runs)
        return [Job("summarise", ("evaluate", "--summary"), key, after)]
