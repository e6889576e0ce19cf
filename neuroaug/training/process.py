"""Training in one process of possibly several: from a task to the trained model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from neuroaug.config import GeneratorConfig
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.registries import FAMILIES, NETWORKS
from neuroaug.system.devices import Devices
from neuroaug.system.interruption import stop_requests
from neuroaug.system.progress import progress
from neuroaug.system.randomness import KEYED
from neuroaug.training import memory_estimate
from neuroaug.training.batches import BatchReader
from neuroaug.training.distributed import Processes
from neuroaug.training.loop import Loop
from neuroaug.training.state import TrainingPlan, TrainingResult
from neuroaug.training.stored_images import open_stored, training_start

if TYPE_CHECKING:
    import pandas as pd

EVERYONE = "one anatomy for all labels"


@dataclass(frozen=True)
class TrainingTask:
    """All that a process needs to train; it travels to spawned processes."""

    plan: TrainingPlan
    out: Path
    label: str | None
    grid: str | None
    images: NDArray[Any] | Path
    lineage: pd.DataFrame
    split_hash: str
    devices: Devices
    needed: memory_estimate.MemoryEstimate
    tune: bool = True
    part: str = ""
    found_before: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What progress is shown of."""
        return f"training {self.label or EVERYONE}{self.part}"


def build_model(
    config: GeneratorConfig, shape: tuple[int, ...], label: str | None, grid: str | None, seed: int
) -> GenerativeModel:
    """A generator with untrained weights that depend on `seed` alone."""
    family: type[GenerativeModel] = FAMILIES.get(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(KEYED.seed(seed, "weights"))
        return family(config, shape, label, grid)


def train_in_process(fabric: Any, task: TrainingTask) -> tuple[GenerativeModel, TrainingResult]:
    """Train in this process, or go on where its checkpoint is; the model has the best weights.

    Raises
    ------
    NeuroaugError
        As of `neuroaug.training.loop.Loop.run`; `ResourceError` where memory does not suffice.
    """
    plan, config = task.plan, task.plan.config
    processes = Processes(fabric.global_rank, fabric.world_size, fabric.device)
    stored = open_stored(task.images)
    model = build_model(config, stored.shape[1:], task.label, task.grid, plan.seed)
    channels_last = NETWORKS.get(config.network).channels_last
    model = model.to(fabric.device)
    model.start_from(training_start(stored, plan.fitted))
    reader = BatchReader(stored, fabric.device, channels_last=channels_last)
    with stop_requests() as stop, progress(config.max_epochs, task.title, "epochs") as tracker:
        loop = Loop(
            model,
            reader,
            plan,
            processes,
            fabric.autocast,
            stop,
            tracker if processes.is_first else None,
        )
        if not model.in_closed_form and loop.resume():
            tracker.resume_at(loop.position.epoch)
        try:
            outcome = loop.found_at_once() if model.in_closed_form else loop.run()
            loop.update_metric()
        except (RuntimeError, MemoryError) as error:
            batch = -(-plan.batch_size // processes.world_size)
            known = memory_estimate.out_of_memory(error, config, task.needed, batch, fabric.device)
            if known is None:
                raise
            raise known from error
    return model, outcome
