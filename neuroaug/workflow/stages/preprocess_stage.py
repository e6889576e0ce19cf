"""Raw scans become volumes that a network can read, in one or more jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from neuroaug.config import StudyConfig
from neuroaug.errors import InputError
from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, EstimateLine, Job, Resources, Stage, key_of, listing

RAW_SCANS = "sub-*/**/*_T1w.nii*"
PHANTOM_SHARE = 0.25  # of a real head's seconds: the voxels of the embedded cohort are larger
COARSER = {"1mm": "2mm", "2mm": "4mm", "4mm": "4mm"}


class PreprocessStage(Stage):
    """Preprocessing; the participants are dealt into ``preprocessing.jobs`` jobs."""

    name = "preprocess"
    resources: ClassVar[Resources] = {"mem_mb": lambda wildcards, threads: 3000 * threads}

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """A job per part of the participants."""
        config = study.config.preprocessing
        raw: str | list[tuple[str, int]] | None = None
        if earlier["phantom"]:
            raw = earlier["phantom"][0].key
        elif study.bids is not None:
            raw = listing(study.bids, RAW_SCANS)
        product = key_of("preprocess", config.model_dump(mode="json"), raw)
        after = tuple(job.name for job in earlier["phantom"])
        jobs = []
        for part in range(1, config.jobs + 1):
            name = f"preprocess-{part}"
            of_all = ("--part", f"{part}/{config.jobs}") if config.jobs > 1 else ()
            command = ("preprocess", "--n-procs", "{threads}", *of_all)
            # Exit code 1: visits that failed are listed in failures.tsv, and later stages leave
            # them out.
            jobs.append(Job(name, command, key_of(name, product), after, product, (0, 1)))
        return jobs

    def threads(self, config: StudyConfig, available: int) -> int:
        """An equal share of what there is."""
        return max(1, available // config.preprocessing.jobs)

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """The fast profile, and the generators' images one resolution coarser."""
        return {
            "resolution": COARSER[config.resolution],
            "preprocessing": {"profile": "fast", "resolutions": ["1mm", "2mm", "4mm"]},
        }

    def estimate(self, study: Study, jobs: Sequence[Job]) -> list[EstimateLine]:
        """Raw scans, and hours of a core.

        Raises
        ------
        InputError
            If the folder of raw scans is absent.
        """
        from neuroaug.preprocessing.plan import SECONDS

        seconds = SECONDS[study.config.preprocessing.profile]
        if study.config.phantom is not None:
            phantom = study.config.phantom
            n, seconds = phantom.scanned or phantom.n_participants, PHANTOM_SHARE * seconds
        elif study.bids is None:
            return []
        elif not study.bids.is_dir():
            raise InputError(f"{study.bids}: no such folder")
        else:
            n = len(listing(study.bids, RAW_SCANS))
        note = f"about {n * seconds / 3600:.1f} core hours"
        return [EstimateLine("visits to preprocess", n, note)]
