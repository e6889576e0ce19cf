"""Sections about the generators: training, synthetic sets, and real beside synthetic images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.nifti import read_volume
from neuroaug.report import figures
from neuroaug.report.content import ReportFigure, ReportSection, make_table
from neuroaug.study import Study
from neuroaug.system.files import read_json, read_tsv

N_SHOWN = 5
LOW_ACCEPTANCE = 0.5
"""Acceptance rate below which a chain hardly moves."""


def member_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each ``<root>/<split>/<label>[_seed-<s>]``."""
    if not root.is_dir():
        return
    for split in sorted(path for path in root.iterdir() if path.is_dir()):
        for member in sorted(path for path in split.iterdir() if path.is_dir()):
            yield f"{split.name} {member.name}", member


def generators(study: Study, section: ReportSection, phantom: bool) -> None:
    """Fill in each model folder: what it learned from, how training went."""
    rows, histories = [], {}
    for name, folder in member_folders(study.root / "models"):
        if not (folder / "config.json").is_file():
            rows.append([name, "training", *[None] * 7])
            continue
        config = read_json(folder / "config.json")
        record = config.get("training", {})
        network = config.get("config", config).get("network")
        rows.append(
            [
                name,
                f"{config.get('model', '')} {network or ''}".strip(),
                config.get("grid"),
                *(record.get(key) for key in ("n_images", "epochs", "best_epoch")),
                _rounded(record.get("elbo")),
                record.get("stopped_by"),
                _rounded(record.get("metric_contrast")),
            ]
        )
        if record.get("metric_dead"):
            section.paragraphs.append(
                f"{name}: the learned metric is flat (its network learned nothing), so its samples "
                "follow no geometry."
            )
        if (folder / "history.csv").is_file():
            histories[name] = _history(folder / "history.csv")
    if not rows:
        return
    head = (
        "generator",
        "network",
        "grid",
        "training images",
        "epochs",
        "best epoch",
        "best ELBO",
        "stopped by",
        "metric contrast",
    )
    section.paragraphs.insert(
        0, "One generative model per diagnosis, learned from its training participants only."
    )
    section.tables.append(make_table("Generators", head, rows, numeric=(3, 4, 5, 6, 8)))
    if histories:
        words = "; ".join(f"{name}: {len(h['epoch'])} epochs" for name, h in histories.items())
        caption = "Training curves (the first epochs may lie outside the frame)."
        section.figures.append(
            ReportFigure(figures.training_curves(histories, phantom), caption, words)
        )


def _history(path: Path) -> dict[str, NDArray]:
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' parser and decoding errors are ValueErrors
        raise InputError(f"{path}: not readable as a table ({str(error).strip()})") from None
    if "epoch" not in table.columns:
        raise InputError(
            f"{path}: column epoch missing; found {', '.join(map(str, table.columns))}"
        )
    return {
        str(name): pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        for name in table.columns
    }


def _rounded(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def synthetic_sets(study: Study, section: ReportSection, phantom: bool) -> None:
    """Fill in each synthetic set: how it was sampled, how the chains moved."""
    rows, tables = [], {}
    for name, folder in member_folders(study.root / "synthetic"):
        if not (folder / "synthesis.json").is_file():
            continue
        record = read_json(folder / "synthesis.json")
        n = (
            len(read_tsv(folder / "participants.tsv"))
            if (folder / "participants.tsv").is_file()
            else None
        )
        found: dict[str, NDArray] = {}
        if (folder / "draws.tsv").is_file():
            table = read_tsv(folder / "draws.tsv")
            for column in ("acceptance_rate", "displacement"):
                if column in table.columns:
                    found[column] = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
            found = {
                column: values for column, values in found.items() if np.isfinite(values).any()
            }
        if found:
            tables[name] = found
        acceptance = found.get("acceptance_rate")
        rows.append(
            [
                name,
                n,
                *(record.get(key) for key in ("sampler", "profile", "seed", "dtype")),
                _spread(acceptance),
                _spread(found.get("displacement")),
            ]
        )
        if acceptance is not None and np.nanmean(acceptance) < LOW_ACCEPTANCE:
            section.paragraphs.append(
                f"{name}: on average {100 * np.nanmean(acceptance):.0f} % of the moves were "
                "accepted; below 50 % the chains hardly move and the images may repeat the "
                "training participants."
            )
    if not rows:
        return
    head = (
        "set",
        "images",
        "sampler",
        "settings",
        "seed",
        "voxel type",
        "acceptance rate",
        "displacement",
    )
    section.tables.append(
        make_table("Synthetic sets (mean and range over images)", head, rows, numeric=(1, 4, 6, 7))
    )
    if tables:
        words = "; ".join(
            f"{name}: {', '.join(f'{c} {_spread(v)}' for c, v in t.items())}"
            for name, t in tables.items()
        )
        caption = (
            "How the chains moved: share of moves accepted, and distance of each sample from where "
            "its chain began."
        )
        section.figures.append(
            ReportFigure(figures.chain_diagnostics(tables, phantom), caption, words)
        )


def _spread(values: NDArray | None) -> str | None:
    if values is None:
        return None
    known = values[np.isfinite(values)]
    return f"{known.mean():.2f} ({known.min():.2f} to {known.max():.2f})"


def images(study: Study, section: ReportSection, phantom: bool) -> None:
    """Fill in slices of training participants beside synthetic ones, per set."""
    for name, folder in member_folders(study.root / "synthetic"):
        if not (folder / "synthesis.json").is_file():
            continue
        record = read_json(folder / "synthesis.json")
        resolution = str(record.get("resolution", study.config.resolution))
        made = read_tsv(folder / "participants.tsv", ("participant_id",))["participant_id"][
            :N_SHOWN
        ]
        synthetic = _slices(folder, [(participant, "ses-M000") for participant in made], resolution)
        learned = read_tsv(folder / "lineage.tsv", ("participant_id", "session_id"))
        visits = list(zip(learned["participant_id"], learned["session_id"], strict=True))
        real = _slices(study.caps, _spaced(visits, N_SHOWN), resolution)
        caption = (
            f"{name}: {len(real)} of the {len(visits)} images learned from (left), synthetic "
            f"images 1 to {len(synthetic)} (right); sagittal, coronal and axial slices at "
            f"{resolution}. Not chosen by looks."
        )
        png = figures.montage(real, synthetic, str(record.get("label", name)), phantom)
        section.figures.append(ReportFigure(png, caption, f"Slices of heads, {caption}"))
    if section.figures and not phantom:
        section.paragraphs.append(
            "This file shows slices of real participants: handle it as you handle their scans."
        )


def _spaced(visits: list[tuple[str, str]], n: int) -> list[tuple[str, str]]:
    return [
        visits[i]
        for i in sorted({round(k) for k in np.linspace(0, len(visits) - 1, min(n, len(visits)))})
    ]


def _slices(caps: Path, visits: list[tuple[str, str]], resolution: str) -> list[list[NDArray]]:
    found = []
    for participant, session in visits:
        path = caps_names.t1_linear_image(
            caps, caps_names.Visit(participant, session), resolution=resolution
        )
        if path.is_file():
            volume = read_volume(path)
            found.append(figures.slices(volume.data, volume.affine))
    return found
