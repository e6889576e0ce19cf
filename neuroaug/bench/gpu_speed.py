"""Speed on a GPU: training at 2 mm and 1 mm, share of the peak rate, images written per second.

Images are random: their content changes no timing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from neuroaug.bench.benchmark import N_SAMPLES, row, temporary_folder
from neuroaug.bench.generate_speed import LABEL, made_up_lineage, untrained_model
from neuroaug.config import GeneratorConfig
from neuroaug.errors import ResourceError
from neuroaug.imaging.grid import GRIDS

TRAIN_50, EPOCHS = 50, 1000
COHORT_1MM, BATCH_1MM = 210, 16
MATRIX = 8192
"""Side of the square bfloat16 matrices whose product measures the device's peak."""


@dataclass(frozen=True)
class TrainingFigures:
    """Cost of training.

    Attributes
    ----------
    seconds_per_epoch : float
        Seconds per epoch, validation included.
    peak_bytes : int
        Peak memory of the device; 0 on a CPU.
    """

    seconds_per_epoch: float
    peak_bytes: int


def run(full: bool = False) -> list[dict[str, Any]]:
    """Measure on the first GPU.

    Parameters
    ----------
    full : bool
        Whether to take 100 epochs at 2 mm and all 5000 images, instead of 10 and 512.

    Returns
    -------
    list of dict
        Rows of `neuroaug.bench.benchmark.row`.

    Raises
    ------
    ResourceError
        If the machine has no GPU.
    """
    if not torch.cuda.is_available():
        raise ResourceError("bench gpu: this machine has no GPU that torch can use")
    device = torch.cuda.get_device_name()
    n_epochs, n_samples = (100, N_SAMPLES) if full else (10, 512)
    config = GeneratorConfig()
    small = train_random(config, GRIDS["2mm"].shape, TRAIN_50, n_epochs, "cuda")
    seconds, flops = step(config, GRIDS["2mm"].shape, config.batch_size, "cuda")
    peak = matmul_rate("cuda")
    large = config.model_copy(update={"batch_size": BATCH_1MM})
    fine = train_random(large, GRIDS["1mm"].shape, COHORT_1MM, 2, "cuda")
    minutes = small.seconds_per_epoch * EPOCHS / 60
    written = write_images("2mm", n_samples, "cuda") * N_SAMPLES / n_samples
    epoch = f"an epoch at 1 mm, {COHORT_1MM} images, batch {BATCH_1MM}"
    drawn = f"{n_samples} drawn"
    share, rate = "share of the bfloat16 matrix product's rate", f"{peak / 1e12:.0f} TFLOP/s"
    rows = [
        row(f"train-50 at 2 mm, {EPOCHS} epochs", minutes, "min", f"from {n_epochs} epochs"),
        row("peak memory, 2 mm, batch 25", small.peak_bytes / 1e9, "GB"),
        row("training step, 2 mm, batch 25", seconds, "s", f"{flops / 1e12:.2f} TFLOP"),
        row(share, flops / seconds / peak, "", rate),
        row(epoch, fine.seconds_per_epoch, "s", "its ELBO included"),
        row(f"peak memory, 1 mm, batch {BATCH_1MM}", fine.peak_bytes / 1e9, "GB", "limit 80 GB"),
        row(f"{N_SAMPLES} images at 2 mm, generated and written", written, "s", drawn),
    ]
    return [one | {"note": "; ".join(filter(None, (one["note"], device)))} for one in rows]


def train_random(
    config: GeneratorConfig, shape: tuple[int, ...], n_images: int, n_epochs: int, device: str
) -> TrainingFigures:
    """Train on random images; the first epoch, which warms up, is left out where there are more."""
    from neuroaug.training.train import train

    images = np.random.default_rng(0).integers(0, 256, (n_images, *shape), dtype=np.uint8)
    config = config.model_copy(update={"max_epochs": n_epochs, "patience": n_epochs + 1})
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with temporary_folder() as folder:
        out = folder / "model"
        train(
            images,
            config=config,
            label=LABEL,
            out=out,
            lineage=made_up_lineage(n_images),
            split_hash="0" * 64,
            device=device,
        )
        seconds = pd.read_csv(out / "history.csv")["seconds"].to_numpy()
    per_epoch = (seconds[-1] - seconds[0]) / (n_epochs - 1) if n_epochs > 1 else seconds[0]
    peak_bytes = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return TrainingFigures(float(per_epoch), peak_bytes)


def step(
    config: GeneratorConfig, shape: tuple[int, ...], batch: int, device: str, n: int = 10
) -> tuple[float, float]:
    """Seconds and floating-point operations of a step in bfloat16, images on the device."""
    from neuroaug.models import RHVAE

    torch.manual_seed(0)
    model = RHVAE(config, shape).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    x = torch.rand(batch, 1, *shape, device=device).contiguous(memory_format=torch.channels_last_3d)

    def once() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model.loss(x).loss
        loss.backward()
        optimizer.step()

    once()
    with _CountedOperations() as counted:
        once()
    return _seconds(once, n, device), counted.total


class _CountedOperations(TorchDispatchMode):
    """Counts floating-point operations by torch's own formulas.

    Its own counter also follows modules, by hooks that input gradients inside a loss do not get
    along with.
    """

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _seconds(function: Any, n: int, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(n):
        function()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / n


def matmul_rate(device: str, side: int = MATRIX) -> float:
    """Operations per second of a square bfloat16 matrix product: the peak that the device shows."""
    a, b = (torch.rand(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    torch.mm(a, b)
    return 2 * side**3 / _seconds(lambda: torch.mm(a, b), 20, device)


def write_images(resolution: str, n: int, device: str) -> float:
    """Seconds to draw, decode, compress and write n images with tuned chains."""
    from neuroaug.samplers.sampler import tune_samplers
    from neuroaug.synthesis.generate import generate

    with temporary_folder() as folder:
        model = untrained_model(folder / "model", resolution)
        model.sampler_settings = tune_samplers(model.latent_space())
        model.save(folder / "model")
        start = time.perf_counter()
        generate(folder / "model", n=n, out=folder / LABEL, device=device)
        return time.perf_counter() - start
