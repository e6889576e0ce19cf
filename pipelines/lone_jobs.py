"""Make Snakemake count a job that is ready alone.

Snakemake 9.10 to 9.15 starts such a job without taking its cores and GPU from what there is, and
gives them back when it ends (snakemake issues 3815 and 3913). A workflow that begins with jobs one
after the other then runs ever more jobs at a time: seven on two cores. Newer versions cannot be
installed beside the rest of neuroaug.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import wraps
from typing import Any

from snakemake.scheduling.job_scheduler import JobScheduler


def count_lone_jobs() -> None:
    """Subtract what a selected job takes, where the scheduler has not done so itself."""
    select = JobScheduler.job_selector
    if getattr(select, "counts_lone_jobs", False):
        return

    @wraps(select)
    def counted(self: Any, jobs: Collection[Any]) -> Any:
        before = self.resources["_cores"]
        selected = select(self, jobs)
        if selected and self.resources["_cores"] == before:
            with self._lock:
                self.update_available_resources(selected)
        return selected

    counted.counts_lone_jobs = True  # type: ignore[attr-defined]
    JobScheduler.job_selector = counted
