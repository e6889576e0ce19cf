"""Generators: one per training set, label and seed that a cell takes synthetic images from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from neuroaug.config import Cell, StudyConfig
from neuroaug.study import Study
from neuroaug.system.files import sha256_file
from neuroaug.workflow.stage import Earlier, EstimateLine, Job, Resources, Stage, hours_text, key_of
from neuroaug.workflow.stages.split_stage import n_per_label


class TrainStage(Stage):
    """Training of generators."""

    name = "train"
    resources: ClassVar[Resources] = {"gpu": 1, "mem_mb": 64000, "runtime": 2880}

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """A job per generator."""
        config, (split_job,) = study.config, earlier["split"]
        settings = config.generator.fingerprint()
        beside = _asked_of_shared(study)
        first: dict[tuple[str, int], str] = {}
        jobs = []
        for split, label, seed in all_generators(config):
            asked = [settings, config.resolution, split, label, seed, *beside]
            name, key = f"train_{split}_{label}_{seed}", key_of("train", *asked, split_job.key)
            which = ("--label", label, "--split", split, "--seed", str(seed))
            command = ("train", *which, "--omp-nthreads", "{threads}")
            # The first label's job trains the shared anatomy; the others wait for it.
            trains = first.setdefault((split, seed), name) if config.generator.shared else name
            after = (split_job.name,) if trains == name else (split_job.name, trains)
            jobs.append(Job(name, command, key, after))
        return jobs

    def threads(self, config: StudyConfig, available: int) -> int:
        """The generators of one seed share what there is; a shared one has all."""
        together = 1 if config.generator.shared else len(config.class_labels)
        return max(1, available // together)

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """A narrow network and three epochs."""
        return {
            "generator": {
                **config.generator.model_dump(),
                "width": 4,
                "batch_size": 4,
                "max_epochs": 3,
                "validate_every": 3,
                "seeds": config.generator.seeds[:2],
            }
        }

    def estimate(self, study: Study, jobs: Sequence[Job]) -> list[EstimateLine]:
        """Generators, and hours of all their epochs."""
        if not jobs:
            return []
        config = study.config.generator
        step, how = generator_step_seconds(study)
        made = all_generators(study.config)
        share = len(study.config.label_names) if config.shared else 1  # trained once, on everyone
        trained = {
            (split, seed) if share > 1 else (split, label, seed) for split, label, seed in made
        }
        steps = sum(
            math.ceil(share * n_per_label(study, split) / config.batch_size)
            for split, *_ in sorted(trained)
        )
        if config.stopping == "cross-validated":
            steps *= config.folds  # of k folds each sees (k - 1)/k of the images, then everyone
        hours = steps * config.max_epochs * step / 3600
        note = f"at most {hours_text(hours)} ({how}; early stopping ends sooner)"
        return [EstimateLine("generators to train", len(jobs), note, hours)]


def _asked_of_shared(study: Study) -> list[Any]:
    """What a shared generator depends on beside its settings; nothing, as before, without one."""
    config = study.config
    if not config.generator.shared:
        return []
    law = config.law.model_dump(mode="json") if config.law else None
    unlabelled = None
    if config.generator.unlabelled is not None:
        path = study.path(config.generator.unlabelled)
        unlabelled = sha256_file(path) if path.is_file() else path.name
    return [list(config.label_names), law, unlabelled]


def generators(config: StudyConfig, cell: Cell, runs: Iterable[int]) -> list[tuple[str, str, int]]:
    """Generators (split, label, seed) that runs of a cell take images, or their rule, from.

    Run k takes those of seed k modulo the number of seeds.
    """
    if not cell.n_synthetic and not cell.asks_law:
        return []
    seeds = config.generator.seeds
    taken = dict.fromkeys(seeds[k % len(seeds)] for k in runs)
    return [(cell.split, label, seed) for seed in taken for label in config.class_labels]


def all_generators(config: StudyConfig) -> list[tuple[str, str, int]]:
    """Generators (split, label, seed) of the whole study, each once."""
    runs = range(config.evaluation.runs)
    found = (one for cell in config.cells() for one in generators(config, cell, runs))
    return list(dict.fromkeys(found))


def generator_step_seconds(study: Study) -> tuple[float, str]:
    """Seconds of a training step, timed with one image and scaled to a batch; and how, in words."""
    import time

    import torch

    from neuroaug.imaging.grid import GRIDS
    from neuroaug.models.registry import FAMILIES

    config = study.config.generator
    if config.network == "mlp":
        return float("nan"), "the fully connected network is not measured here"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    grid = study.config.resolution
    shape = GRIDS[grid].shape
    label = study.config.label_names[0]
    model = FAMILIES.get(config.model)(config, shape, label=label, grid=grid).to(device)
    x = torch.rand(1, 1, *shape, device=device)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        model.loss(x).loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    seconds = min(times)
    return seconds * config.batch_size, f"a step of one image took {seconds:.2f} s on {device}"
