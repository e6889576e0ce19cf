"""Learning curves: what synthetic images are worth in patients, in tables, a picture and words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuroaug.config import Cell
from neuroaug.report import figures
from neuroaug.report.content import ReportFigure, ReportSection, data_text, decimals, to_number
from neuroaug.study import Study
from neuroaug.system.files import read_tsv

FOLDER, CURVE, WORTH = "curve", "curve.tsv", "worth.tsv"
CURVE_COLUMNS = (
    "arm",
    "control",
    "n_per_label",
    "n_splits",
    "n_runs",
    "auc",
    "ci_low",
    "ci_high",
    "validation_auc",
)
WORTH_COLUMNS = (
    "arm",
    "n_per_label",
    "best_control",
    "patients",
    "ci_low",
    "ci_high",
    "at_least",
    "at_most",
)


def read_curve(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read ``curve.tsv`` and ``worth.tsv``, numbers as numbers."""
    curve = read_tsv(folder / CURVE, CURVE_COLUMNS)
    worth = read_tsv(folder / WORTH, WORTH_COLUMNS)
    for table in (curve, worth):
        for name in table.columns:
            if name in ("arm", "best_control"):
                continue
            if name in ("control", "at_least", "at_most"):
                table[name] = table[name].astype(str) == "True"
            else:
                table[name] = pd.to_numeric(table[name], errors="coerce")
    return curve, worth


def curve(study: Study, section: ReportSection) -> None:
    """Fill in ``curve/``: AUC over the number of people, and worth in patients."""
    folder = study.root / FOLDER
    if not (folder / CURVE).is_file():
        return
    table, worth = read_curve(folder)
    section.paragraphs.append(
        "The study again with few real people per label, in several splits of the cohort. An arm "
        "is worth as many patients as the best control would need more to reach its AUC; the best "
        "control at each n was chosen on validation people. Intervals resample participants and "
        "splits together, since splits share people."
    )
    section.paragraphs += sentences(table, worth)
    lines = {
        arm_text(str(arm)): (rows["n_per_label"], rows["auc"], rows["ci_low"], rows["ci_high"])
        for arm, rows in table.groupby("arm", sort=False)
    }
    dashed = {arm_text(arm) for arm in table.loc[table["control"], "arm"]}
    points = {
        name: tuple(column.to_numpy(float) for column in columns) for name, columns in lines.items()
    }
    words = "; ".join(f"{name}: {decimals(auc[-1])}" for name, (_, auc, *_) in points.items())
    png = figures.people_curves(points, dashed, section.phantom)
    caption = "AUC over real people per label, with 95 % intervals; controls dashed."
    section.figures.append(ReportFigure(png, caption, f"At the largest n: {words}"))
    rows = [
        [
            arm_text(w["arm"]),
            int(w["n_per_label"]),
            arm_text(w["best_control"]),
            f"{_bound(w)}{w['patients']:.0f}",
            f"[{w['ci_low']:.0f}, {w['ci_high']:.0f}]",
        ]
        for w in worth.to_dict("records")
    ]
    head = "arm | real people per label | best control | worth, patients per label | 95 % interval"
    section.add_table("Worth in patients", head, rows, numeric=(1, 3, 4))
    rows = [
        [
            arm_text(r["arm"]),
            int(r["n_per_label"]),
            int(r["n_splits"]),
            int(r["n_runs"]),
            f"{decimals(r['auc'])} [{decimals(r['ci_low'])}, {decimals(r['ci_high'])}]",
            decimals(r["validation_auc"]),
        ]
        for r in table.to_dict("records")
    ]
    head = "arm | real people per label | splits | runs | AUC | AUC on validation people"
    section.add_table("Learning curves", head, rows, numeric=(1, 2, 3, 4, 5), folded=True)


def sentences(curve: pd.DataFrame, worth: pd.DataFrame) -> list[str]:
    """Say the worth of the best arm at every n, and what to use at the largest.

    Parameters
    ----------
    curve, worth : DataFrame
        Of `read_curve`.
    """
    validation = curve.set_index(["arm", "n_per_label"])["validation_auc"].to_dict()
    told = []
    for n, rows in worth.groupby("n_per_label"):
        known = [w for w in rows.to_dict("records") if _known(validation.get((w["arm"], n)))]
        if known:
            best = max(known, key=lambda w: validation[w["arm"], n])
            told.append(f"n = {n:.0f} per label: {worth_text(best)}")
    largest = curve[curve["n_per_label"] == curve["n_per_label"].max()]
    largest = largest[largest["validation_auc"].notna()]
    if len(largest):
        # Of equals a control: it costs nothing.
        chosen = largest.sort_values(["validation_auc", "control"], ascending=False).iloc[0]
        told.append(
            f"for this cohort, at {chosen['n_per_label']:.0f} people per label, validation people "
            f"recommend {arm_text(chosen['arm'])} (AUC {decimals(chosen['validation_auc'])} on "
            "them)"
        )
    return told


def worth_text(row: Mapping[Any, Any]) -> str:
    """Say an arm's worth so that a clinician reads it."""
    what = arm_text(row["arm"])
    if row["at_least"] and row["at_most"]:
        return f"{what}: worth unknown; more people do not help the best control here"
    people = "patient" if abs(round(row["patients"])) == 1 else "patients"
    interval = f"[{row['ci_low']:.0f}, {row['ci_high']:.0f}]"
    return (
        f"{what}: worth {_bound(row)}{row['patients']:.0f} {people} per label {interval} beside "
        f"the best control, {arm_text(row['best_control'])}"
    )


def _bound(row: Mapping[Any, Any]) -> str:
    return "at least " if row["at_least"] else "at most " if row["at_most"] else ""


def _known(value: object) -> bool:
    number = to_number(value)
    return number is not None and math.isfinite(number)


def arm_text(arm: str) -> str:
    """An arm in words: ``baseline_4mm_real`` -> ``real (baseline)``."""
    cell = Cell.parse(f"train_{arm}")
    return f"{data_text(cell.data)} ({cell.network})"
