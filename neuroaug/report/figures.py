"""The report's figures, as PNG bytes. Every figure of a phantom study says so."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.training.folds.fold_curves import FoldCurves

# Okabe and Ito's palette: told apart by readers who see colours differently, and in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
PHANTOM_NOTE = "PHANTOM DATA, not patients"
# World coordinates (mm, MNI) of the slices: through hippocampus and ventricles.
CUTS = (("sagittal", 0, -26.0), ("coronal", 1, -20.0), ("axial", 2, 8.0))


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any, phantom: bool, dpi: int = 110) -> bytes:
    if phantom:
        figure.suptitle(PHANTOM_NOTE, fontsize=8, color="#8a2800")
    buffer = io.BytesIO()
    # No software or date in the file: equal studies give equal reports.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def intervals(rows: Sequence[tuple[str, str, float, float, float]], phantom: bool) -> bytes:
    """Plot balanced accuracies with their 95 % intervals.

    Parameters
    ----------
    rows : sequence of (cell, test set, mean, low, high)
        Accuracies and limits of their intervals, fractions in [0, 1].
    phantom : bool
        Whether to say that the data are phantoms.
    """
    names = list(dict.fromkeys(row[0] for row in rows))
    sets = list(dict.fromkeys(row[1] for row in rows))
    figure = _figure(7.2, 1.1 + 0.34 * len(names) * max(1, 0.6 * len(sets)))
    axes = figure.add_subplot()
    for k, test_set in enumerate(sets):
        offset = (k - (len(sets) - 1) / 2) * 0.22
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        for name, which, mean, low, high in rows:
            if which == test_set:
                y = names.index(name) + offset
                axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=1.6)
                axes.plot([100 * mean], [y], marker, color=colour, markersize=6)
        axes.plot([], [], marker, color=colour, label=test_set)
    axes.axvline(50, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("balanced accuracy, % (dotted: guessing)")
    axes.spines[["top", "right"]].set_visible(False)
    if len(sets) > 1:
        axes.legend(title="test set", fontsize=8, title_fontsize=8, frameon=False)
    return _png(figure, phantom)


def training_curves(histories: Mapping[str, Mapping[str, NDArray]], phantom: bool) -> bytes:
    """Plot loss and ELBO over the epochs of each generator.

    Parameters
    ----------
    histories : mapping of str to (mapping of column to values)
        By the name of the generator; columns epoch, loss and elbo, missing values NaN.
    phantom : bool
        Whether to say that the data are phantoms.
    """
    figure = _figure(7.6, 2.9)
    for axes, column in zip(figure.subplots(1, 2), ("loss", "elbo"), strict=True):
        for k, (name, history) in enumerate(histories.items()):
            if column not in history:
                continue
            known = np.isfinite(history[column])
            marker = MARKERS[k % len(MARKERS)] if known.sum() < 30 else None
            axes.plot(
                history["epoch"][known],
                history[column][known],
                color=COLOURS[k % len(COLOURS)],
                linestyle=("-", "--", "-.", ":")[k % 4],
                marker=marker,
                markersize=3,
                linewidth=1.2,
                label=name,
            )
            _fit(axes, history[column][known])
        axes.set_xlabel("epoch")
        axes.set_ylabel({"loss": "training loss", "elbo": "ELBO (higher is better)"}[column])
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        axes.spines[["top", "right"]].set_visible(False)
    if len(histories) > 1:
        figure.axes[0].legend(fontsize=8, frameon=False)
    return _png(figure, phantom)


def fold_curves(generators: Mapping[str, FoldCurves], phantom: bool) -> bytes:
    """Plot the ELBO of the people that each fold left out, one panel a generator.

    Parameters
    ----------
    generators : mapping of str to FoldCurves
        By the name of the generator; a line marks the mean of its folds' best steps.
    phantom : bool
        Whether to say that the data are phantoms.
    """
    figure = _figure(3.8 * min(len(generators), 2), 2.9 * -(-len(generators) // 2))
    panels = figure.subplots(-(-len(generators) // 2), min(len(generators), 2), squeeze=False)
    for axes in panels.ravel()[len(generators) :]:
        axes.set_visible(False)
    for axes, (name, curves) in zip(panels.ravel(), generators.items(), strict=False):
        for k, (steps, elbo) in enumerate(curves.folds):
            marker = MARKERS[k % len(MARKERS)] if len(steps) < 30 else None
            axes.plot(
                steps,
                elbo,
                color=COLOURS[k % len(COLOURS)],
                marker=marker,
                markersize=3,
                linewidth=1.2,
                label=f"fold {k + 1}",
            )
            _fit(axes, elbo)
        axes.axvline(curves.taken, color="0.4", linestyle="--", linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("steps")
        axes.set_ylabel("ELBO of people left out")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=8, frameon=False)
    return _png(figure, phantom)


def people_curves(
    arms: Mapping[str, Sequence[NDArray]], dashed: Collection[str], phantom: bool
) -> bytes:
    """Plot AUC over the number of real people per label.

    Parameters
    ----------
    arms : mapping of str to (n, auc, low, high)
        By the name of the arm.
    dashed : collection of str
        Arms that are controls.
    phantom : bool
        Whether to say that the data are phantoms.
    """
    figure = _figure(7.6, 3.6)
    axes = figure.subplots()
    for k, (name, (n, auc, low, high)) in enumerate(arms.items()):
        shift = 1.02 ** (k - (len(arms) - 1) / 2)  # intervals beside each other
        style = {"color": COLOURS[k % len(COLOURS)], "linewidth": 1.2}
        axes.plot(
            n * shift,
            auc,
            linestyle="--" if name in dashed else "-",
            marker=MARKERS[k % len(MARKERS)],
            markersize=4,
            label=name,
            **style,
        )
        axes.vlines(n * shift, low, high, alpha=0.5, **style)
    axes.axhline(0.5, color="0.4", linestyle=":", linewidth=1)
    ticks = sorted({int(value) for n, *_ in arms.values() for value in n})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("real people per label")
    axes.set_ylabel("AUC (dotted: guessing)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure, phantom)


def learning_curves(cells: Mapping[str, Sequence[Mapping[str, NDArray]]], phantom: bool) -> bytes:
    """Plot losses and validation balanced accuracy over the epochs, two panels per cell.

    Parameters
    ----------
    cells : mapping of str to sequence of mappings
        By the name of the cell, its runs: columns epoch, training_loss, validation_loss and
        validation_balanced_accuracy.
    phantom : bool
        Whether to say that the data are phantoms.
    """
    n_columns = min(4, len(cells))
    n_rows = -(-len(cells) // n_columns)
    figure = _figure(0.6 + 2.6 * n_columns, 0.3 + 2.9 * n_rows)
    axes = np.atleast_2d(figure.subplots(2 * n_rows, n_columns, squeeze=False))
    for k, (name, runs) in enumerate(cells.items()):
        above, below = axes[2 * (k // n_columns) :, k % n_columns][:2]
        _curves(above, runs, "training_loss", "-", COLOURS[0])
        _curves(above, runs, "validation_loss", "--", COLOURS[1])
        scored = [{**run, "y": 100 * run["validation_balanced_accuracy"]} for run in runs]
        _curves(below, scored, "y", "-", COLOURS[2])
        for run in scored:
            if np.isfinite(run["y"]).any():
                best = int(np.nanargmax(run["y"]))
                x, y = [run["epoch"][best]], [run["y"][best]]
                below.plot(x, y, "o", color=COLOURS[2], markersize=3)
        below.axhline(50, color="0.5", linewidth=0.8, linestyle=":")
        below.set_ylim(0, 103)
        above.set_ylim(bottom=0)
        above.set_title(textwrap.fill(name, 30), fontsize=7.5)
        below.set_xlabel("epoch", fontsize=7)
        if k % n_columns == 0:
            above.set_ylabel("loss", fontsize=7)
            below.set_ylabel("balanced acc., %", fontsize=7)
    for panel in axes.ravel():
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.get_major_locator().set_params(integer=True)
        if np.ptp(panel.get_xlim()) < 0.5:  # a single epoch
            panel.set_xticks([1])
        if not panel.lines:
            panel.set_visible(False)
    return _png(figure, phantom, dpi=90)


def _curves(
    axes: Any, runs: Sequence[Mapping[str, NDArray]], column: str, style: str, colour: str
) -> None:
    """Draw each run thin and their mean thick; a shorter run ends where it ends."""
    n = max(len(run["epoch"]) for run in runs)
    stacked = np.full((len(runs), n), np.nan)
    for row, run in zip(stacked, runs, strict=True):
        row[: len(run[column])] = run[column]
        if len(runs) > 1:
            axes.plot(run["epoch"], run[column], style, color=colour, linewidth=0.5, alpha=0.45)
    known = np.isfinite(stacked).any(axis=0)
    mean = np.nanmean(stacked[:, known], axis=0)
    marker = "." if known.sum() < 5 else None
    axes.plot(np.arange(1, n + 1)[known], mean, style, color=colour, linewidth=1.6, marker=marker)


def _fit(axes: Any, values: NDArray) -> None:
    """Show the later course: the first epochs may be orders of magnitude away."""
    if values.size < 10:
        return
    low, high = np.percentile(values, [5, 95])
    margin = 0.3 * (high - low) + 1e-9
    bottom, top = low - margin, high + margin
    if not axes.get_autoscaley_on():  # another curve set them: show both
        bottom, top = min(axes.get_ylim()[0], bottom), max(axes.get_ylim()[1], top)
    axes.set_ylim(bottom, top)


def slices(volume: NDArray, affine: NDArray) -> list[NDArray]:
    """Cut a volume (X, Y, Z) with axes near RAS+ in three planes.

    Each slice is (rows, columns), head up, with intensities in [0, 1].
    """
    top = float(np.percentile(volume, 99.8)) or 1.0
    found = []
    for _, axis, position in CUTS:
        index = round((position - affine[axis, 3]) / affine[axis, axis])
        index = min(max(index, 0), volume.shape[axis] - 1)
        found.append(np.clip(np.take(volume, index, axis=axis).T[::-1] / top, 0, 1))
    return found


def montage(
    real: Sequence[list[NDArray]], synthetic: Sequence[list[NDArray]], label: str, phantom: bool
) -> bytes:
    """Show real images on the left and synthetic ones on the right, one row per plane.

    Parameters
    ----------
    real, synthetic : sequence of lists of three (rows, columns) arrays
        Slices of each image, as `slices` returns them.
    label : str
        Diagnosis of the images.
    phantom : bool
        Whether to say that the data are phantoms.
    """
    figure = _figure(1.2 * (len(real) + len(synthetic)) + 0.6, 4.0)
    sides = (
        (real, f"{label}: real (training)", COLOURS[0]),
        (synthetic, f"{label}: synthetic", COLOURS[1]),
    )
    panels = figure.subplots(1, 2, width_ratios=[max(len(images), 1) for images, _, _ in sides])
    for axes, (images, name, colour) in zip(panels, sides, strict=True):
        axes.set_title(name, fontsize=10, color=colour, fontweight="bold")
        axes.axis("off")
        if images:
            axes.imshow(mosaic(images), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        else:
            axes.text(0.5, 0.5, "no image found", ha="center", transform=axes.transAxes)
    return _png(figure, phantom)


def mosaic(images: Sequence[list[NDArray]], gap: int = 2) -> NDArray:
    """Put slices side by side, centred: a column per image, a row per plane, white in between."""
    heights = [max(image[row].shape[0] for image in images) for row in range(3)]
    width = max(part.shape[1] for image in images for part in image)
    whole = np.ones((sum(heights) + 2 * gap, len(images) * (width + gap) - gap))
    top = 0
    for row, height in enumerate(heights):
        for column, image in enumerate(images):
            left = column * (width + gap)
            whole[top : top + height, left : left + width] = 0
            y = top + (height - image[row].shape[0]) // 2
            x = left + (width - image[row].shape[1]) // 2
            whole[y : y + image[row].shape[0], x : x + image[row].shape[1]] = image[row]
        top += height + gap
    return whole


def chain_diagnostics(sets: Mapping[str, Mapping[str, NDArray]], phantom: bool) -> bytes:
    """Histogram the acceptance rate and the displacement of each set's chains."""
    figure = _figure(7.6, 2.5)
    titles = {
        "acceptance_rate": "acceptance rate of a chain",
        "displacement": "distance from the start (latent units)",
    }
    for axes, (column, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        values = {name: table[column] for name, table in sets.items() if column in table}
        known = {name: of[np.isfinite(of)] for name, of in values.items()}
        every = np.concatenate([np.empty(0), *known.values()])
        edges = np.histogram_bin_edges(every, 24) if len(every) else 10
        style = {"histtype": "step", "linewidth": 1.5, "bins": edges}
        for k, (name, data) in enumerate(known.items()):
            axes.hist(data, color=COLOURS[k % len(COLOURS)], label=name, **style)
        axes.set_xlabel(title)
        axes.set_ylabel("images")
        axes.spines[["top", "right"]].set_visible(False)
    if len(sets) > 1:
        figure.axes[0].legend(fontsize=8, frameon=False)
    return _png(figure, phantom)
