"""Sections about the training of the classifiers: each cell's curves and cost, and the search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.report import figures
from neuroaug.report.content import ReportFigure, ReportSection, data_text, percent
from neuroaug.report.evaluation_sections import cell_folders
from neuroaug.study import Study
from neuroaug.system.files import read_json, read_tsv

CURVES = ("training_loss", "validation_loss", "validation_balanced_accuracy")
N_SHOWN = 5


def training(study: Study, section: ReportSection) -> None:
    """Fill in how the runs of each cell trained: steps, best epoch, cost, and curves."""
    rows: list[list[object]] = []
    groups: dict[tuple[str, str, str], dict[str, list[dict[str, NDArray]]]] = {}
    for folder in cell_folders(study):
        runs = sorted(
            folder.glob("run-*/history.tsv"),
            key=lambda path: int(path.parent.name.removeprefix("run-")),
        )
        if not runs:
            continue
        cell = Cell.parse(folder.name)
        histories = [_history(path) for path in runs]
        ended = [path.parent / "run.json" for path in runs]
        costs = _cost([read_json(path) for path in ended if path.is_file()])
        name = data_text(cell.data) + (", equal steps" if cell.steps == "matched" else "")
        kind = f"{cell.network} {cell.resolution}"
        rows.append([f"{cell.split}: {name}", kind, len(runs), *costs])
        groups.setdefault((cell.split, cell.network, cell.resolution), {})[name] = histories
    if not rows:
        return
    section.paragraphs.append(
        "Each run keeps the epoch with the best balanced accuracy on the validation set. Cells "
        "named equal steps make the gradient steps of the cell trained on real images alone; the "
        "others make the same number of epochs, so that more images mean more steps."
    )
    head = (
        "training set | classifier | runs | images | epochs | gradient steps | best epoch | "
        "validation balanced accuracy there, % | minutes per run | device"
    )
    folded = len(rows) > 12
    section.add_table("Runs of each cell", head, rows, numeric=range(2, 9), folded=folded)
    for (split, network, resolution), cells in groups.items():
        what = f"{split}, {network} network, {resolution}"
        caption = (
            f"{what}: training loss (solid) and validation loss (dashed) above, validation "
            "balanced accuracy below. Thin lines are runs, the thick one is their mean, dots are "
            "the epochs that were kept."
        )
        words = "; ".join(
            f"{name}: {len(runs)} runs of {max(len(run['epoch']) for run in runs)} epochs"
            for name, runs in cells.items()
        )
        png = figures.learning_curves(cells, section.phantom)
        figure = ReportFigure(png, caption, f"Learning curves of {what}. {words}")
        section.figures.append(figure)


def _history(path: Path) -> dict[str, NDArray]:
    table = read_tsv(path, ("epoch", *CURVES))
    try:
        return {str(name): table[name].to_numpy(float) for name in ("epoch", *CURVES)}
    except ValueError as error:
        raise InputError(f"{path}: not a table of numbers ({error})") from None


def _cost(records: Sequence[dict[str, Any]]) -> list[object]:
    """What a cell's runs took and reached, as the columns from images to device."""
    if not records:
        return [None] * 7

    def values(name: str) -> NDArray:
        return np.array([float(record.get(name, np.nan)) for record in records])

    accuracy, minutes = values("best_validation_balanced_accuracy"), values("seconds") / 60
    devices = list(dict.fromkeys(str(record.get("device", "")) for record in records))
    spans = ("n_training_images", "epochs", "gradient_steps", "best_epoch")
    means = (percent(accuracy.mean()), f"{minutes.mean():.1f}")
    return [*(_span(values(name)) for name in spans), *means, ", ".join(devices)]


def _span(values: NDArray) -> str | None:
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = int(known.min()), int(known.max())
    return str(low) if low == high else f"{low} to {high}"


def search(study: Study, section: ReportSection) -> None:
    """Fill in the random search of the classifier, where there was one."""
    for folder in sorted((study.root / "search").glob("*mm")):
        if not (folder / "draws.tsv").is_file():
            continue
        measured = ("draw", "balanced_accuracy_mean", "balanced_accuracy_std")
        table = read_tsv(folder / "draws.tsv", measured)
        means = pd.to_numeric(table["balanced_accuracy_mean"], errors="coerce")
        best = table.loc[means.sort_values(ascending=False, kind="stable").index[:N_SHOWN]]
        folds = [name for name in table.columns if name.startswith("fold_")]
        settings = [c for c in table.columns if c not in (*measured, *folds, "failure")]
        rows = []
        for row in best.to_dict("records"):
            mean, std = (percent(row[f"balanced_accuracy_{part}"]) for part in ("mean", "std"))
            rows.append([row["draw"], *(_short(row[name]) for name in settings), f"{mean} ± {std}"])
        head = " | ".join(["draw", *settings, "balanced accuracy over the folds, %"])
        caption = (
            f"At {folder.name}: the best of {len(table)} draws in {len(folds)} folds; "
            "the first is used"
        )
        numeric = range(len(settings) + 2)
        section.add_table(caption, head.replace("_", " "), rows, numeric=numeric)
        if "failure" in table.columns and (failed := int(table["failure"].notna().sum())):
            section.paragraphs.append(
                f"At {folder.name}, {failed} draw(s) diverged or did not fit into the device."
            )
        if (folder / "lineage.tsv").is_file():
            n = len(read_tsv(folder / "lineage.tsv"))
            section.paragraphs.append(
                f"At {folder.name}, chosen on the {n} real participants of the training set alone."
            )


def _short(value: Any) -> Any:
    try:
        return f"{float(value):.3g}"
    except (TypeError, ValueError):
        return value
