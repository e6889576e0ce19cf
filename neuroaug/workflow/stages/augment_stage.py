"""Synthetic sets: one per generator, as large as the largest number that a cell asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from neuroaug.config import StudyConfig
from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, EstimateLine, Job, Resources, Stage, key_of
from neuroaug.workflow.stages.train_stage import all_generators


class AugmentStage(Stage):
    """Sampling of synthetic images."""

    name = "augment"
    resources: ClassVar[Resources] = {"gpu": 1, "mem_mb": 8000}

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """A job per generator."""
        config, made = study.config, all_generators(study.config)
        synthesis = config.synthesis.model_dump(mode="json")
        jobs = []
        for (split, label, seed), train in zip(made, earlier["train"], strict=True):
            # Without n: an extended set does not redo the cells that use its first images.
            product = key_of("augment", synthesis, train.key)
            n = max(cell.n_synthetic for cell in config.cells() if cell.split == split)
            if not n:
                continue  # only its rule is asked for
            name = f"augment_{split}_{label}_{seed}"
            which = ("--label", label, "--split", split, "--model-seed", str(seed))
            command = ("augment", *which, "--n", str(n))
            jobs.append(Job(name, command, key_of(product, n), (train.name,), product))
        return jobs

    def threads(self, config: StudyConfig, available: int) -> int:
        """The generators of one seed share what there is."""
        return max(1, available // len(config.class_labels))

    def estimate(self, study: Study, jobs: Sequence[Job]) -> list[EstimateLine]:
        """Synthetic sets."""
        return [EstimateLine("synthetic sets to draw", len(jobs))] if jobs else []
