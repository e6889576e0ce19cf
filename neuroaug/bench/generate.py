"""Images drawn, decoded, compressed and written a second, by an untrained generator of real size."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd


def run(full: bool = False) -> list[dict[str, Any]]:
    """Time `neuroaug.synthesis.generate.generate` at 4 mm, and at 2 mm if `full`."""
    rows = [_measure("4mm", 512)]
    if full:
        rows.append(_measure("2mm", 256))
    return rows


def _measure(resolution: str, n: int) -> dict[str, Any]:
    import torch

    from neuroaug.cohort import lineage
    from neuroaug.config import GeneratorConfig
    from neuroaug.imaging.grid import GRIDS
    from neuroaug.models import RHVAE
    from neuroaug.synthesis.generate import generate

    torch.manual_seed(0)
    shape = GRIDS[resolution].shape
    model = RHVAE(GeneratorConfig(), shape, label="AD", grid=resolution)
    model.update_metric([torch.rand(4, 1, *shape) for _ in range(5)])
    with tempfile.TemporaryDirectory(prefix="neuroaug-bench-") as folder:
        model.save(Path(folder) / "model")
        people = [(f"sub-{i:02d}", "ses-M000", "AD", "0" * 64, "train", "0" * 64) for i in range(20)]
        lineage.write_lineage(Path(folder) / "model", pd.DataFrame(people, columns=list(lineage.LINEAGE_COLUMNS)))
        start = time.perf_counter()
        generate(Path(folder) / "model", n=n, out=Path(folder) / "AD", profile="paper")
        seconds = time.perf_counter() - start
    return {
        "name": f"generate {resolution}",
        "value": n / seconds,
        "unit": "images/s",
        "note": f"{n} images, float32, paper settings of the sampler, written to the temporary folder",
    }
