"""Images drawn, decoded, compressed and written a second, by an untrained generator of real size."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from neuroaug.models import RHVAE


def run(full: bool = False) -> list[dict[str, Any]]:
    """Time `neuroaug.synthesis.generate.generate` at 4 mm, and at 2 mm if `full`."""
    rows = [_measure("4mm", 512)]
    if full:
        rows.append(_measure("2mm", 256))
    return rows


def untrained_model(folder: Path, resolution: str) -> RHVAE:
    """Save a generator with random weights and a metric of 20 random images, as training would."""
    import torch

    from neuroaug.cohort import lineage
    from neuroaug.config import GeneratorConfig
    from neuroaug.imaging.grid import GRIDS
    from neuroaug.models import RHVAE

    torch.manual_seed(0)
    shape = GRIDS[resolution].shape
    model = RHVAE(GeneratorConfig(), shape, label="AD", grid=resolution)
    model.update_metric([torch.rand(4, 1, *shape) for _ in range(5)])
    model.save(folder)
    people = [(f"sub-{i:02d}", "ses-M000", "AD", "0" * 64, "train", "0" * 64) for i in range(20)]
    lineage.write_lineage(folder, pd.DataFrame(people, columns=list(lineage.LINEAGE_COLUMNS)))
    return model


def _measure(resolution: str, n: int) -> dict[str, Any]:
    from neuroaug.synthesis.generate import generate

    with tempfile.TemporaryDirectory(prefix="neuroaug-bench-") as folder:
        untrained_model(Path(folder) / "model", resolution)
        start = time.perf_counter()
        generate(Path(folder) / "model", n=n, out=Path(folder) / "AD", profile="paper")
        seconds = time.perf_counter() - start
    return {
        "name": f"generate {resolution}",
        "value": n / seconds,
        "unit": "images/s",
        "note": f"{n} images, float32, paper settings of the sampler, written to the temporary folder",
    }
