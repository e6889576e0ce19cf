"""Sections about the generators: training, synthetic sets, and real beside synthetic images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.controls.forecast import read_forecast
from neuroaug.errors import InputError
from neuroaug.imaging.caps import Visit, find_t1_linear_image
from neuroaug.imaging.nifti import read_volume
from neuroaug.report import figures
from neuroaug.report.content import ReportFigure, ReportSection
from neuroaug.study import Study
from neuroaug.system.files import read_json, read_tsv, visible
from neuroaug.training.folds.fold_curves import FoldCurves, read_fold_curves
from neuroaug.training.held_out.probe_record import read_probes

N_SHOWN = 5
LOW_ACCEPTANCE = 0.5
"""Acceptance rate below which a chain hardly moves."""


def member_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each ``<root>/<split>/<label>[_seed-<s>]``."""
    if not root.is_dir():
        return
    for split in (path for path in visible(root) if path.is_dir()):
        for member in (path for path in visible(split) if path.is_dir()):
            yield f"{split.name} {member.name}", member


def generators(study: Study, section: ReportSection) -> None:
    """Fill in each model folder: what it learned from, how training went."""
    rows: list[list[Any]] = []
    histories: dict[str, dict[str, NDArray]] = {}
    folds: dict[str, FoldCurves] = {}
    for name, folder in member_folders(study.root / "models"):
        if not (folder / "config.json").is_file():
            rows.append([name, "training", *[None] * 7])
            continue
        config = read_json(folder / "config.json")
        record = config.get("training", {})
        network = config.get("config", config).get("network")
        kind = f"{config.get('model', '')} {network or ''}".strip()
        keys = ("n_images", "epochs", "best_epoch", "elbo", "stopped_by", "metric_contrast")
        figured = [_rounded(record.get(key)) for key in keys]
        rows.append([name, kind, config.get("grid"), *figured])
        if record.get("metric_dead"):
            section.paragraphs.append(
                f"{name}: the learned metric is flat (its network learned nothing), so its samples "
                "follow no geometry."
            )
        if (probes := read_probes(folder)) is not None:
            section.paragraphs.append(f"{name}: {probes.line()}.")
        if (forecast := read_forecast(folder)) is not None:
            section.paragraphs.append(f"{name}: {forecast.line()}.")
        if (curves := read_fold_curves(folder)) is not None:
            folds[name] = curves
        if (folder / "history.csv").is_file():
            history = _history(folder / "history.csv")
            # The labels of a shared anatomy have its history.
            if not any(_same(history, known) for known in histories.values()):
                histories[name] = history
    if not rows:
        return
    section.paragraphs.insert(
        0, "One generative model per diagnosis, learned from its training participants only."
    )
    head = (
        "generator | network | grid | training images | epochs | best epoch | best ELBO | "
        "stopped by | metric contrast"
    )
    section.add_table("Generators", head, rows, numeric=(3, 4, 5, 6, 8))
    if histories:
        words = "; ".join(f"{name}: {len(h['epoch'])} epochs" for name, h in histories.items())
        caption = "Training curves (the first epochs may lie outside the frame)."
        png = figures.training_curves(histories, section.phantom)
        section.figures.append(ReportFigure(png, caption, words))
    if folds:
        words = "; ".join(f"{name}: {curves.taken:.0f} steps" for name, curves in folds.items())
        caption = (
            "ELBO of the participants that each fold left out; the training on everyone took the "
            "mean of the steps at which the folds were best (dashed)."
        )
        png = figures.fold_curves(folds, section.phantom)
        section.figures.append(ReportFigure(png, caption, words))


def _same(one: dict[str, NDArray], other: dict[str, NDArray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name], equal_nan=True) for name in one
    )


def _history(path: Path) -> dict[str, NDArray]:
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' parser and decoding errors are ValueErrors
        raise InputError(f"{path}: not readable as a table ({str(error).strip()})") from None
    if "epoch" not in table.columns:
        found = ", ".join(map(str, table.columns))
        raise InputError(f"{path}: column epoch missing; found {found}")
    return {str(name): _numbers(table[name]) for name in table.columns}


def _numbers(column: pd.Series) -> NDArray:
    return pd.to_numeric(column, errors="coerce").to_numpy(float)


def _rounded(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def synthetic_sets(study: Study, section: ReportSection) -> None:
    """Fill in each synthetic set: how it was sampled, how the chains moved."""
    rows, tables = [], {}
    for name, folder in member_folders(study.root / "synthetic"):
        if not (folder / "synthesis.json").is_file():
            continue
        record = read_json(folder / "synthesis.json")
        people = folder / "participants.tsv"
        n = len(read_tsv(people)) if people.is_file() else None
        found: dict[str, NDArray] = {}
        if (folder / "draws.tsv").is_file():
            table = read_tsv(folder / "draws.tsv")
            columns = [c for c in ("acceptance_rate", "displacement") if c in table.columns]
            found = {c: v for c in columns if np.isfinite(v := _numbers(table[c])).any()}
        if found:
            tables[name] = found
        acceptance = found.get("acceptance_rate")
        settings = (record.get(key) for key in ("sampler", "profile", "seed", "dtype"))
        spreads = (_spread(acceptance), _spread(found.get("displacement")))
        rows.append([name, n, *settings, *spreads])
        if acceptance is not None and np.nanmean(acceptance) < LOW_ACCEPTANCE:
            section.paragraphs.append(
                f"{name}: on average {100 * np.nanmean(acceptance):.0f} % of the moves were "
                "accepted; below 50 % the chains hardly move and the images may repeat the "
                "training participants."
            )
    if not rows:
        return
    caption = "Synthetic sets (mean and range over images)"
    head = "set | images | sampler | settings | seed | voxel type | acceptance rate | displacement"
    section.add_table(caption, head, rows, numeric=(1, 4, 6, 7))
    if tables:
        words = "; ".join(
            f"{name}: {', '.join(f'{c} {_spread(v)}' for c, v in t.items())}"
            for name, t in tables.items()
        )
        caption = (
            "How the chains moved: share of moves accepted, and distance of each sample from where "
            "its chain began."
        )
        png = figures.chain_diagnostics(tables, section.phantom)
        section.figures.append(ReportFigure(png, caption, words))


def _spread(values: NDArray | None) -> str | None:
    if values is None:
        return None
    known = values[np.isfinite(values)]
    return f"{known.mean():.2f} ({known.min():.2f} to {known.max():.2f})"


def images(study: Study, section: ReportSection) -> None:
    """Fill in slices of training participants beside synthetic ones, per set."""
    for name, folder in member_folders(study.root / "synthetic"):
        if not (folder / "synthesis.json").is_file():
            continue
        record = read_json(folder / "synthesis.json")
        resolution = str(record.get("resolution", study.config.resolution))
        made = read_tsv(folder / "participants.tsv", ("participant_id",))["participant_id"]
        shown = [(participant, "ses-M000") for participant in made[:N_SHOWN]]
        synthetic = _slices(folder, shown, resolution)
        learned = read_tsv(folder / "lineage.tsv", ("participant_id", "session_id"))
        visits = list(zip(learned["participant_id"], learned["session_id"], strict=True))
        real = _slices(study.caps, _spaced(visits, N_SHOWN), resolution)
        caption = (
            f"{name}: {len(real)} of the {len(visits)} images learned from (left), synthetic "
            f"images 1 to {len(synthetic)} (right); sagittal, coronal and axial slices at "
            f"{resolution}. Not chosen by looks."
        )
        png = figures.montage(real, synthetic, str(record.get("label", name)), section.phantom)
        section.figures.append(ReportFigure(png, caption, f"Slices of heads, {caption}"))
    if section.figures and not section.phantom:
        section.paragraphs.append(
            "This file shows slices of real participants: handle it as you handle their scans."
        )


def _spaced(visits: list[tuple[str, str]], n: int) -> list[tuple[str, str]]:
    places = np.linspace(0, len(visits) - 1, min(n, len(visits)))
    return [visits[i] for i in sorted({round(place) for place in places})]


def _slices(caps: Path, visits: list[tuple[str, str]], resolution: str) -> list[list[NDArray]]:
    found = []
    for participant, session in visits:
        path = find_t1_linear_image(caps, Visit(participant, session), resolution)
        if path.is_file():
            volume = read_volume(path)
            found.append(figures.slices(volume.data, volume.affine))
    return found
