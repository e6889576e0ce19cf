"""The search of the classifier: one per resolution at which a cell has the optimised network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from neuroaug.config import OPTIMISED, Control, StudyConfig
from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, EstimateLine, Job, Resources, Stage, hours_text, key_of
from neuroaug.workflow.stages.split_stage import n_per_label

if TYPE_CHECKING:
    from neuroaug.config import ClassifierSpec, EvaluationConfig

TIMED_TRIALS = 6  # of a search, whose networks differ a hundredfold
TIMED_RESOLUTION = "4mm"
# Settings of the evaluation that the trials of a search have too.
SHARED_SETTINGS = ("batch_size", "scaling", "storage", "precision")


class SearchStage(Stage):
    """Random search of the classifier; ``search.jobs`` jobs share its trials."""

    name = "search"
    resources: ClassVar[Resources] = {"gpu": 1, "mem_mb": 32000, "runtime": 2880}

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """Equal jobs per resolution, each of which takes trials until none is left."""
        config, (split,) = study.config, earlier["split"]
        asked = config.search.model_dump(mode="json", exclude={"jobs"})
        shared = config.evaluation.model_dump(mode="json", include=set(SHARED_SETTINGS))
        jobs = []
        for resolution in searched_resolutions(config):
            product = key_of("search", resolution, asked, shared, split.key)
            command = ("search", "--resolution", resolution, "--omp-nthreads", "{threads}")
            for part in range(1, config.search.jobs + 1):
                name = f"search_{resolution}_{part}"
                jobs.append(Job(name, command, key_of(product, name), (split.name,), product))
        return jobs

    def threads(self, config: StudyConfig, available: int) -> int:
        """All searches share what there is."""
        n_jobs = config.search.jobs * len(searched_resolutions(config))
        return max(1, available // max(1, n_jobs))

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """Two trials of one epoch."""
        return {
            "search": {
                **config.search.model_dump(),
                "draws": 2,
                "folds": 2,
                "epochs": 1,
                "jobs": min(2, config.search.jobs),
            }
        }

    def estimate(self, study: Study, jobs: Sequence[Job]) -> list[EstimateLine]:
        """Trainings per resolution, and their hours."""
        asked, lines = study.config.search, []
        for resolution in searched_resolutions(study.config):
            hours = _search_hours(study, resolution)
            size = f"{asked.draws} trials x {asked.folds} folds x {asked.epochs} epochs"
            note = f"about {hours_text(hours)}; {size}; a step as the mean of {TIMED_TRIALS} trials"
            n = asked.draws * asked.folds
            lines.append(EstimateLine(f"search, trainings at {resolution}", n, note, hours))
        return lines


def searched_resolutions(config: StudyConfig) -> list[str]:
    """Resolutions of the cells whose network is found by a search."""
    return list(dict.fromkeys(c.resolution for c in config.cells() if c.network == OPTIMISED))


def _search_hours(study: Study, resolution: str) -> float:
    asked, batch = study.config.search, study.config.evaluation.batch_size
    images = len(study.config.class_labels) * n_per_label(study, "train") * (1 - 1 / asked.folds)
    steps = asked.draws * asked.folds * asked.epochs * math.ceil(images / batch)
    return steps * _mean_trial_seconds(study, resolution) / 3600


def classifier_step_seconds(study: Study, network: str, resolution: str) -> float:
    """Seconds of a training step of a network; of the optimised one, found already or not."""
    if network in list(Control):
        return 0.0  # fitted at once
    if network != OPTIMISED:
        return _measured(network, resolution, study.config.evaluation)
    from neuroaug.evaluation.study_search import found

    if (study.search(resolution) / "best.json").is_file():
        return _measured(network, resolution, study.config.evaluation, found(study, resolution))
    return _mean_trial_seconds(study, resolution)


@cache
def _measured(
    network: str, resolution: str, config: EvaluationConfig, spec: ClassifierSpec | None = None
) -> float:
    from neuroaug.evaluation.step_timing import bare_step_seconds
    from neuroaug.imaging.grid import GRIDS

    return bare_step_seconds(network, GRIDS[resolution].shape, config, spec=spec)


def _mean_trial_seconds(study: Study, resolution: str) -> float:
    """Mean step of the first trials of a search, timed at a coarse grid and scaled by voxels.

    At full size a wide network would take minutes on a CPU, and the memory of a small GPU.
    """
    from neuroaug.evaluation.search import draw
    from neuroaug.imaging.grid import GRIDS

    voxels = math.prod(GRIDS[resolution].shape) / math.prod(GRIDS[TIMED_RESOLUTION].shape)
    specs = [draw(study.config.search.seed, i) for i in range(TIMED_TRIALS)]
    config = study.config.evaluation
    seconds = [_measured(OPTIMISED, TIMED_RESOLUTION, config, spec) for spec in specs]
    return voxels * sum(seconds) / len(seconds)
