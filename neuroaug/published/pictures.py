"""Pictures of the pages, drawn from the generators and results that the tables left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroaug.published import trained_generators
from neuroaug.published.experiments import interpolation
from neuroaug.published.experiments.geometric_vae import with_centroids
from neuroaug.published.memo import Memo
from neuroaug.published.run_scores import student_interval
from neuroaug.published.table_jobs import collected
from neuroaug.published.table_run import TableRun, arms
from neuroaug.system.files import atomic_path

SHOWN = 12
DPI = 110
ASIDE = 1.03
"""Factor between the places of two rows' points on a logarithmic axis."""


def draw(settings: dict[str, Any], folder: Path, out: Path) -> None:
    """Draw a table's picture into ``<table>.png``, if it has one.

    Parameters
    ----------
    settings : dict
        The table's configuration; ``figure`` names the kind: ``samples``, ``geometric``, ``paths``
        or ``curve``.
    folder : Path
        Folder of generators and intermediate results.
    out : Path
        Folder of the pictures.
    """
    kind = settings.get("figure")
    if kind is None:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    if kind == "curve":
        picture = curve(settings, collected(settings, folder))
    else:
        run = TableRun(Memo(folder), settings, next(iter(settings["datasets"])), 0)
        picture = {"samples": samples, "geometric": geometric, "paths": paths}[kind](run)
    with atomic_path(out / f"{settings['table']}.png") as temporary:
        picture.savefig(temporary, dpi=DPI, bbox_inches="tight", metadata={"Software": None})


def grid(rows: dict[str, np.ndarray]) -> Any:
    """Rows of images, (n, X, Y, 1) uint8 each, by name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.5 * SHOWN + 2, 0.55 * len(rows)))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        axis.imshow(np.concatenate(list(images[:, :, :, 0]), axis=1), cmap="gray", vmin=0, vmax=255)
        axis.set_yticks([])
        axis.set_xticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    return figure


def samples(run: TableRun) -> Any:
    """Training images, and the first samples of every arm, class by class."""
    labels = run.subset.train.labels
    chosen = np.arange(SHOWN) % run.subset.n_classes
    rows = {"training images": np.stack([run.subset.train.images[labels == c][0] for c in chosen])}
    for arm in arms(run.settings):
        models = run.models(arm.model)
        each = {int(c): run.sampled(models[int(c)], arm, SHOWN) for c in np.unique(chosen)}
        rows[arm.name] = np.stack([each[int(c)][i] for i, c in enumerate(chosen)])
    return grid(rows)


def geometric(run: TableRun) -> Any:
    """Samples of every arm, and with the metric of few centroids."""
    train = run.subset.train
    model = run.model_of_all("vae")
    rows = {"training images": train.images[:: max(1, len(train) // SHOWN)][:SHOWN]}
    for arm in arms(run.settings):
        rows[arm.name] = run.sampled(model, arm, SHOWN)
    for k in run.settings["n_centroids"]:
        few = with_centroids(model, train.floats(), k)  # type: ignore[arg-type]
        rows[f"{k} centroids"] = trained_generators.sampled(few, SHOWN, "geometric", seed=run.seed)
    return grid(rows)


def paths(run: TableRun) -> Any:
    """Images along both ways between the two images of every class that are farthest apart."""
    model = run.model_of_all("rhvae")
    rows = {}
    for first, second in interpolation.farthest_pairs(run, model)[:: run.settings["n_farthest"]]:
        label = run.subset.train.labels[first]
        for name, path in interpolation.paths(model, first, second).items():
            steps = np.linspace(0, len(path) - 1, SHOWN).round().astype(int)
            rows[f"{name}, class {label}"] = interpolation.decoded(model, path[steps])
    return grid(rows)


def curve(settings: dict[str, Any], scores: pd.DataFrame) -> Any:
    """Accuracy against the number of real images per class."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    sizes = {spec.get("title", name): spec["n_real"] for name, spec in settings["datasets"].items()}
    for place, (row, group) in enumerate(scores.groupby("row", sort=False)):
        points = []
        for column, values in group.groupby("column", sort=False)["value"]:
            low, high = student_interval(values.to_numpy())
            points.append((sizes[column], values.mean(), low, high))
        x, mean, low, high = np.array(sorted(points)).T
        # Side by side, that intervals do not hide each other.
        x = x * ASIDE**place
        axis.errorbar(
            x, mean, yerr=np.nan_to_num([mean - low, high - mean]), marker="o", capsize=2, label=row
        )
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_xticks(sorted(sizes.values()), [str(n) for n in sorted(sizes.values())])
    axis.set_xlabel("real training images per class")
    axis.set_ylabel("accuracy on real test images, %")
    axis.legend(fontsize=7)
    return figure
