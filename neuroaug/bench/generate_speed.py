"""Images per second, drawn, decoded, compressed and written, by an untrained generator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.bench.benchmark import row, temporary_folder
from neuroaug.config import PUBLISHED_LABELS

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.models import RHVAE

LABEL = PUBLISHED_LABELS[1]


def run(full: bool = False) -> list[dict[str, Any]]:
    """Time `neuroaug.synthesis.generate.generate` at 4 mm, and at 2 mm if `full`.

    Returns
    -------
    list of dict
        Rows of `neuroaug.bench.benchmark.row`.
    """
    rows = [_measure("4mm", 512)]
    if full:
        rows.append(_measure("2mm", 256))
    return rows


def untrained_model(folder: Path, resolution: str) -> RHVAE:
    """Save a generator of real size, with random weights and a metric of 20 random images."""
    import torch

    from neuroaug.cohort import lineage
    from neuroaug.config import GeneratorConfig
    from neuroaug.imaging.grid import GRIDS
    from neuroaug.models import RHVAE

    torch.manual_seed(0)
    shape = GRIDS[resolution].shape
    model = RHVAE(GeneratorConfig(), shape, label=LABEL, grid=resolution)
    model.update_metric([torch.rand(4, 1, *shape) for _ in range(5)])
    model.save(folder)
    lineage.write_lineage(folder, made_up_lineage(20))
    return model


def made_up_lineage(n: int) -> pd.DataFrame:
    """Lineage of n made-up participants."""
    import pandas as pd

    names = [f"sub-{i:04d}" for i in range(n)]
    same = {
        "session_id": "ses-M000",
        "diagnosis": LABEL,
        "image_sha256": "0" * 64,
        "split": "train",
    }
    return pd.DataFrame({"participant_id": names, **same, "split_hash": "0" * 64})


def _measure(resolution: str, n: int) -> dict[str, Any]:
    from neuroaug.synthesis.generate import generate

    with temporary_folder() as folder:
        untrained_model(folder / "model", resolution)
        start = time.perf_counter()
        generate(folder / "model", n=n, out=folder / LABEL, profile="paper")
        seconds = time.perf_counter() - start
    note = f"{n} images, float32, paper settings of the sampler, written to the temporary folder"
    return row(f"generate {resolution}", n / seconds, "images/s", note)
