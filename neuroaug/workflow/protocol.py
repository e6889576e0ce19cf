"""The jobs of a study in order, and their completion records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from neuroaug.study import Study
from neuroaug.workflow.stage import Job, Stage
from neuroaug.workflow.stages import STAGES

RECORDS = ".neuroaug/records"


@dataclass(frozen=True)
class Protocol:
    """The jobs of one study. Reads the configuration and the names of input files, nothing else.

    Attributes
    ----------
    study : Study
        The study.
    stages : sequence of Stage
        The stages in order.
    """

    study: Study
    stages: Sequence[Stage] = STAGES

    @classmethod
    def open(cls, folder: str | Path) -> Protocol:
        """The protocol of the study in `folder`."""
        return cls(Study.open(folder))

    @cached_property
    def by_stage(self) -> dict[str, list[Job]]:
        """Jobs by the name of their stage."""
        found: dict[str, list[Job]] = {}
        for stage in self.stages:
            found[stage.name] = stage.jobs(self.study, found)
        return found

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """All jobs by name."""
        return {job.name: job for job in chain.from_iterable(self.by_stage.values())}

    @property
    def last(self) -> list[Job]:
        """Jobs that no other waits for."""
        awaited = {name for job in self.jobs.values() for name in job.after}
        return [job for job in self.jobs.values() if job.name not in awaited]

    def record(self, job: str) -> str:
        """Completion record of a job, relative to the study."""
        return f"{RECORDS}/{job}.json"

    def remove_stale_records(self) -> list[str]:
        """Remove the records whose job is asked for differently now; gives their jobs' names."""
        stale = []
        for job in self.jobs.values():
            path = self.study.root / self.record(job.name)
            if not path.is_file():
                continue
            try:
                recorded = json.loads(path.read_text()).get("key")
            except (json.JSONDecodeError, AttributeError):
                recorded = None
            if recorded != job.key:
                path.unlink()
                stale.append(job.name)
        return stale
