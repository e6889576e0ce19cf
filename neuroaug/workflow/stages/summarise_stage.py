"""The tables of results, from the per-image scores of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuroaug.study import Study
from neuroaug.system.files import sha256_json
from neuroaug.workflow.stage import Job, Stage


class SummariseStage(Stage):
    """``results.tsv`` and ``comparisons.tsv``."""

    name = "summarise"

    def jobs(self, study: Study, earlier: Mapping[str, Sequence[Job]]) -> list[Job]:
        """One job."""
        runs = sorted(earlier["evaluate"], key=lambda job: job.name)
        key, after = sha256_json([job.key for job in runs]), tuple(job.name for job in runs)
        return [Job("summarise", ("evaluate", "--summary"), key, after)]
