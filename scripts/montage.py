"""Show what generators learned: training images, reconstructions and samples, per label.

Run as ``python scripts/montage.py CAPS MODEL [MODEL ...] --out PNG``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neuroaug.imaging import caps
from neuroaug.imaging.intensity import rescale
from neuroaug.imaging.nifti import read_volume
from neuroaug.models import load_model

N_SHOWN = 6


def training_images(
    caps_folder: Path, lineage: Path, resolution: str, n: int
) -> NDArray[np.float32]:
    """First n images that a generator learned from, as it saw them, (n, X, Y, Z) in [0, 1]."""
    rows = pd.read_csv(lineage, sep="\t").head(n)
    visits = [
        caps.Visit(p, s) for p, s in zip(rows["participant_id"], rows["session_id"], strict=True)
    ]
    files = [caps.t1_linear_image(caps_folder, visit, resolution) for visit in visits]
    return np.stack([rescale(read_volume(file).data, "min-max") for file in files])


def axial(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Middle axial slices side by side, head up."""
    return np.concatenate([image[:, ::-1, image.shape[2] // 2].T for image in images], axis=1)


def main() -> None:
    """Draw the figure: for each model a row of training images, reconstructions, samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("caps", type=Path, help="the CAPS folder that the generators learned from")
    parser.add_argument("models", type=Path, nargs="+", help="model folders")
    parser.add_argument("--out", type=Path, required=True, help="the PNG")
    arguments = parser.parse_args()
    rows, names = [], []
    for folder in arguments.models:
        model = load_model(folder)
        assert model.grid is not None, f"{folder}: trained on no CAPS grid"
        real = training_images(arguments.caps, folder / "lineage.tsv", model.grid, N_SHOWN)
        again = model.reconstruct(torch.from_numpy(real)[:, None])[:, 0].numpy()
        latents, info = model.sample_latents(N_SHOWN)
        drawn = model.decode(latents)[:, 0].numpy()
        print(
            f"{model.label}: metric contrast {model.metric_contrast().contrast:.2f}, acceptance "
            f"{info.acceptance_rate.mean():.2f}, median displacement "
            f"{np.median(info.displacement):.2f}, split R-hat {info.split_r_hat.max():.2f}"
        )
        rows += [axial(images) for images in (real, again, drawn)]
        names += [f"{model.label} {what}" for what in ("training", "reconstruction", "sample")]
    figure = Figure(figsize=(11, 1.9 * len(rows)), layout="constrained")
    for axes, row, name in zip(figure.subplots(len(rows), 1), rows, names, strict=True):
        axes.imshow(row, cmap="gray", vmin=0, vmax=1, origin="upper")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, fontsize=8)
    figure.savefig(arguments.out, dpi=90)


if __name__ == "__main__":
    main()
