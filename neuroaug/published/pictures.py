"""Figures of the page, drawn from the generators and results that the tables left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuroaug.published.arms import ArmBench, arms
from neuroaug.published.experiments import interpolation
from neuroaug.published.experiments.geometric import with_centroids
from neuroaug.published.jobs import collected
from neuroaug.published.memo import Memo
from neuroaug.published.parts import trained_generators
from neuroaug.published.run_scores import student_interval
from neuroaug.system.files import atomic_path

SHOWN = 12
DPI = 110
ASIDE = 1.03
"""Factor between the places of two rows' points on a logarithmic axis."""


def draw(settings: dict[str, Any], folder: Path, out: Path) -> None:
    """Draw a table's figure into ``<table>.png``, if it has one.

    Parameters
    ----------
    settings : dict
        The table's configuration; ``figure`` names the kind: ``samples``, ``geometric``, ``paths``
        or ``curve``.
    folder : Path
        Of generators and intermediate results.
    out : Path
        Where to.
    """
    kind = settings.get("figure")
    if kind is None:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    bench = ArmBench(Memo(folder), settings, next(iter(settings["datasets"])), 0)
    figure = (
        {"samples": samples, "geometric": geometric, "paths": paths}[kind](bench)
        if kind != "curve"
        else curve(settings, folder)
    )
    with atomic_path(out / f"{settings['table']}.png") as temporary:
        figure.savefig(temporary, dpi=DPI, bbox_inches="tight", metadata={"Software": None})


def grid(rows: dict[str, np.ndarray]) -> Any:
    """A figure of rows of images, (n, X, Y, 1) uint8 each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.5 * SHOWN + 2, 0.55 * len(rows)))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        axis.imshow(np.concatenate(list(images[:, :, :, 0]), axis=1), cmap="gray", vmin=0, vmax=255)
        axis.set_yticks([])
        axis.set_xticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    return figure


def samples(bench: ArmBench) -> Any:
    """Training images, and the first draws of every arm, class by class."""
    labels = bench.subset.train.labels
    chosen = np.arange(SHOWN) % bench.subset.n_classes
    rows = {
        "training images": np.stack([bench.subset.train.images[labels == c][0] for c in chosen])
    }
    for arm in arms(bench.settings):
        models = bench.models(arm.model)
        each = {
            int(c): trained_generators.drawn(
                models[int(c)], SHOWN, arm.sampler, seed=bench.seed, profile=arm.profile
            )
            for c in np.unique(chosen)
        }
        rows[arm.name] = np.stack([each[int(c)][i] for i, c in enumerate(chosen)])
    return grid(rows)


def geometric(bench: ArmBench) -> Any:
    """Draws of every arm, and with the metric of few centroids."""
    model = trained_generators.fitted(
        bench.memo, bench.subset.train, bench.model_settings("vae"), label="all", seed=bench.seed
    )
    rows = {
        "training images": bench.subset.train.images[:: max(1, len(bench.subset.train) // SHOWN)][
            :SHOWN
        ]
    }
    for arm in arms(bench.settings):
        rows[arm.name] = trained_generators.drawn(
            model, SHOWN, arm.sampler, seed=bench.seed, profile=arm.profile
        )
    for k in bench.settings["n_centroids"]:
        few = with_centroids(model, bench.subset.train.floats(), k)  # type: ignore[arg-type]
        rows[f"{k} centroids"] = trained_generators.drawn(few, SHOWN, "geometric", seed=bench.seed)
    return grid(rows)


def paths(bench: ArmBench) -> Any:
    """Images along both ways between the two training images of every class that are farthest
    apart.
    """
    model = interpolation.trained(bench)
    rows = {}
    for first, second in interpolation.farthest_pairs(bench, model)[
        :: bench.settings["n_farthest"]
    ]:
        label = bench.subset.train.labels[first]
        for name, path in interpolation.paths(model, first, second).items():
            steps = np.linspace(0, len(path) - 1, SHOWN).round().astype(int)
            rows[f"{name}, class {label}"] = interpolation.decoded(model, path[steps])
    return grid(rows)


def curve(settings: dict[str, Any], folder: Path) -> Any:
    """Accuracy against the number of real images a class."""
    from matplotlib.figure import Figure

    scores = collected(settings, folder)
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
    axis.set_xlabel("real training images a class")
    axis.set_ylabel("accuracy on real test images, %")
    axis.legend(fontsize=7)
    return figure
