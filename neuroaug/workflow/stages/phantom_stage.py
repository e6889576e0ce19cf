"""The embedded cohort, where a study has it instead of patients."""

from __future__ import annotations

from typing import Any

from neuroaug.config import PhantomConfig, StudyConfig
from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, Job, Stage, key_of

REHEARSED_PARTICIPANTS = 36


class PhantomStage(Stage):
    """Raw scans and tables of the embedded cohort."""

    name = "phantom"

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """One job, or none in a study of patients."""
        if study.config.phantom is None:
            return []
        key = key_of("phantom", study.config.phantom.model_dump(mode="json"))
        return [Job("phantom", ("phantom", "--n-procs", "{threads}"), key)]

    def threads(self, config: StudyConfig, available: int) -> int:
        """All: nothing else runs beside it."""
        return available

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """Phantoms with the tables of the same cohort, and no external test set."""
        layout = config.cohort if config.cohort != "auto" else "adni"
        phantom = PhantomConfig(n_participants=REHEARSED_PARTICIPANTS, cohort=layout)
        return {
            "phantom": phantom.model_dump(),
            "bids": "bids",
            "caps": "caps",
            "tables": "bids",
            "cohort": layout,
            "external": {},
        }
