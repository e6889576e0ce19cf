"""The trainer's step beside a bare PyTorch loop on the same network, and its wait for images.

On a CPU the seconds are of processor time, so that other work on the machine does not enter; on a
GPU they are of the clock.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroaug.bench.benchmark import row, temporary_folder
from neuroaug.config import PUBLISHED_LABELS


def run(full: bool = False) -> list[dict[str, Any]]:
    """Time training at 4 mm with 60 images.

    Parameters
    ----------
    full : bool
        Whether to time training at 2 mm too, and the reading of 20000 images at 2 mm.

    Returns
    -------
    list of dict
        Rows of `neuroaug.bench.benchmark.row`.
    """
    rows = _at("4mm", n_train=60, n_validation=16, epochs=5)
    if full:
        rows += _at("2mm", n_train=24, n_validation=4, epochs=2)
        rows += _streaming("2mm", n_images=20_000)
    return [*rows, _import_row()]


def _clock() -> Callable[[], float]:
    import torch

    return time.perf_counter if torch.cuda.is_available() else time.process_time


def _at(resolution: str, *, n_train: int, n_validation: int, epochs: int) -> list[dict[str, Any]]:
    import torch

    from neuroaug.config import EvaluationConfig
    from neuroaug.evaluation.runs import ClassifierSettings
    from neuroaug.system.devices import find_devices

    config = EvaluationConfig(epochs=epochs)
    where = find_devices("auto").first
    settings = ClassifierSettings.of(
        config, network="baseline", epochs=epochs, seed=0, device=where
    )
    threads = torch.get_num_threads()
    if where.type == "cpu":
        torch.set_num_threads(1)  # processor time of one thread is time worked
    try:
        with temporary_folder() as folder:
            train, validation = _images(folder, resolution, n_train, n_validation)
            bare = _bare(train, settings)
            clock = _clock()
            start = clock()
            steps, waits = _trainer(train, validation, settings, folder / "maps")
            whole = clock() - start
            bare = min(bare, _bare(train, settings))
    finally:
        torch.set_num_threads(threads)
    device = "cpu, 1 thread" if where.type == "cpu" else torch.cuda.get_device_name()
    step, wait = statistics.median(steps), statistics.median(waits)
    what = f"baseline network, batch {config.batch_size}, {device}"
    beside = f"{what}; reference: bare PyTorch loop, images in memory; median of epochs' means"
    waited = f"wait for images after the first epoch, {resolution}"
    mapped = "memory-mapped uint8; reference: the whole step"
    trained = f"training, {n_train} images, {epochs} epochs, {resolution}"
    validated = f"{what}; with {n_validation} validation images every epoch"
    return [
        row(f"trainer's step, {resolution}", step, "s", beside, reference=bare, ratio=step / bare),
        row(waited, wait, "s per step", mapped, reference=step, ratio=wait / step),
        row(trained, whole, "s", validated),
    ]


def _images(folder: Path, resolution: str, n_train: int, n_validation: int) -> tuple[Any, Any]:
    """Noise on the resolution's grid, through the same cache as real images."""
    from neuroaug.evaluation.image_store import ImageStore
    from neuroaug.imaging import caps
    from neuroaug.imaging.grid import GRIDS
    from neuroaug.imaging.nifti import write_volume

    rng = np.random.default_rng(0)
    grid = GRIDS[resolution]
    caps.write_dataset_description(folder / "caps", name="noise, for a benchmark")
    rows = []
    for i in range(n_train + n_validation):
        visit = caps.Visit(f"sub-{i:04d}", "ses-M000")
        volume = rng.random(grid.shape, dtype=np.float32)
        path = caps.t1_linear_image(folder / "caps", visit, resolution)
        write_volume(path, volume, grid.affine, level=1)
        rows.append((visit.participant_id, visit.session_id, PUBLISHED_LABELS[i % 2]))
    table = pd.DataFrame(rows, columns=["participant_id", "session_id", "diagnosis"])
    store = ImageStore(folder / "cache", resolution)
    train = store.real(folder / "caps", table[:n_train], PUBLISHED_LABELS, "train")
    return train, store.real(folder / "caps", table[n_train:], PUBLISHED_LABELS, "validation")


def _streaming(resolution: str, n_images: int) -> list[dict[str, Any]]:
    """One pass in random order over a set that is larger than most memories, without a network.

    Every block of the set holds the same noise: what is read is what counts, and 16 GB are written.
    """
    from neuroaug.evaluation.cell_images import Images
    from neuroaug.evaluation.clinicadl.datasets import VolumeCollate, VolumeDataset
    from neuroaug.evaluation.image_store import SYNTHETIC_BLOCK
    from neuroaug.imaging.cache import CohortCache
    from neuroaug.imaging.grid import GRIDS
    from neuroaug.system.files import free_bytes, human_bytes

    grid = GRIDS[resolution]
    with temporary_folder() as folder:
        shape = (SYNTHETIC_BLOCK, *grid.shape)
        n_blocks = min(n_images // SYNTHETIC_BLOCK, free_bytes(folder) // 2 // math.prod(shape))
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        caches = []
        record = {"affine": grid.affine.tolist(), "grid": resolution, "scaling": "min-max"}
        for i in range(n_blocks):
            np.save(folder / f"{i}.npy", noise)
            mapped = np.load(folder / f"{i}.npy", mmap_mode="r")
            caches.append(CohortCache(folder, mapped, pd.DataFrame(), record))
        del noise
        positions = np.arange(n_blocks * SYNTHETIC_BLOCK)
        table = pd.DataFrame(
            {
                "participant_id": [f"sub-synAD{i:05d}" for i in positions],
                "session_id": "ses-M000",
                "diagnosis": [PUBLISHED_LABELS[i % 2] for i in positions],
                "label": (positions % 2).astype(float),
            }
        )
        block, row_of_block = positions // SYNTHETIC_BLOCK, positions % SYNTHETIC_BLOCK
        images = Images(table, tuple(caches), block, row_of_block, positions >= 0)
        dataset, collate = VolumeDataset(images, seed=0, batch_size=8), VolumeCollate()
        before, most, start = _resident_bytes(), 0, time.perf_counter()
        for first in range(0, len(images), 8):
            collate(dataset.__getitems__(range(first, min(first + 8, len(images)))))
            if first % 512 == 0:
                most = max(most, _resident_bytes())
        seconds = time.perf_counter() - start
        size = human_bytes(sum(cache.images.nbytes for cache in caches))
    note = f"{len(images)} uint8 images ({size}), batches of 8 in random order, one reading thread"
    added = (most - before) / 2**20
    return [
        row(f"reading, {resolution}", len(images) / seconds, "images/s", note),
        row(f"resident memory that reading adds, {resolution}", added, "MiB", note),
    ]


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _bare(train: Any, settings: Any) -> float:
    """Mean seconds of a step, by the median epoch of a plain loop on float32 tensors in memory."""
    import torch

    from neuroaug.evaluation.clinicadl import classifier_training
    from neuroaug.imaging.intensity import from_stored

    clock, device = _clock(), settings.device
    model = classifier_training.build_model(settings, train.shape, 4.0).network.to(device)
    model = model.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    images = (
        torch.from_numpy(from_stored(train.stored(np.arange(len(train))))).unsqueeze(1).to(device)
    )
    images = images.contiguous(memory_format=torch.channels_last_3d)
    labels = torch.from_numpy(train.labels).long().to(device)
    means = []
    for _ in range(max(2, settings.epochs)):
        start, n_steps = clock(), 0
        for chosen in torch.randperm(len(train), device=device).split(settings.batch_size):
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                loss = torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            n_steps += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        means.append((clock() - start) / n_steps)
    return statistics.median(means)


def _trainer(
    train: Any, validation: Any, settings: Any, maps: Path
) -> tuple[list[float], list[float]]:
    """Mean seconds of a step and of the wait for its images, in every epoch but the first."""
    import torch

    from neuroaug.evaluation.clinicadl import classifier_training

    clock = _clock()
    steps, waits = [], []

    class Stopwatch(classifier_training.Callback):
        """Times epochs without their validation."""

        def on_epoch_start(self, **kwargs: Any) -> None:
            self.start = self.idle = clock()
            self.wait, self.n, self.training = 0.0, 0, True

        def on_batch_start(self, **kwargs: Any) -> None:
            if self.training:
                self.wait += clock() - self.idle
                self.n += 1

        def on_batch_end(self, **kwargs: Any) -> None:
            self.idle = clock()

        def on_validation_start(self, *, state: Any, **kwargs: Any) -> None:
            if settings.device.type == "cuda":
                torch.cuda.synchronize()
            self.training = False
            if state.current_epoch > 1:
                steps.append((clock() - self.start) / self.n)
                waits.append(self.wait / self.n)

    classifier_training.fit(
        train, validation, settings, maps=maps, title="benchmark", extra_callbacks=[Stopwatch()]
    )
    return steps, waits


def _import_row() -> dict[str, Any]:
    """Time of the imports that every process needs once before its first run."""
    code = (
        "import time; t = time.process_time(); "
        "import neuroaug.evaluation.clinicadl.classifier_training; print(time.process_time() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    note = "once per process; `runs_per_job` shares it between runs"
    return row("import of ClinicaDL and torch", float(done.stdout), "s", note)
