"""Sections about the classifiers: results, comparisons, leakage proof, further tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from neuroaug.audit.cell_proof import FILE_NAME, PROOF_COLUMNS
from neuroaug.report import figures
from neuroaug.report.content import (
    ReportFigure,
    ReportSection,
    data_text,
    decimals,
    p_text,
    percent,
    to_number,
)
from neuroaug.statistics.columns import (
    COMPARISON_COLUMNS,
    MEASURES,
    OLDEST_RESULT_COLUMNS,
    SCORE_MEASURES,
)
from neuroaug.statistics.results import FEW_PARTICIPANTS
from neuroaug.study import Study
from neuroaug.system.files import read_tsv, visible
from neuroaug.system.packaged_files import packaged

FURTHER = (
    ("detectable", "Smallest difference in balanced accuracy that would be found with 80 % power"),
    ("measures", "Further measures"),
    ("selection", "Number of synthetic images chosen on the validation set"),
    ("subgroups", "Scores by group of participants"),
    ("calibration", "Calibration of the scores"),
)


SCORE_WORDS = {"auc": "AUC", "brier": "Brier score (lower is better)"}
_DIFFERENCES = {
    "balanced accuracy": ("balanced_accuracy",),
    "AUC and Brier score": SCORE_MEASURES,
    "sensitivity and specificity": ("sensitivity", "specificity"),
}


def results(study: Study, section: ReportSection) -> None:
    """Fill in ``results.tsv``: mean and standard deviation over runs, 95 % interval, and a plot."""
    if not study.results.is_file():
        return
    table = read_tsv(study.results, OLDEST_RESULT_COLUMNS)
    ranked = [m for m in SCORE_MEASURES if f"{m}_mean" in table.columns]
    negative, positive = study.config.classes
    section.paragraphs.append(
        "Mean ± standard deviation over the runs, then the 95 % interval, which also counts that "
        f"other participants might have been tested. {positive} is the positive class: "
        f"sensitivity is the share of {positive} found, specificity the share of {negative}. "
        "Numbers of synthetic images are per label."
    )
    rows, points = [], []
    for row in table.to_dict("records"):
        scores = [
            f"{percent(row[f'{m}_mean'])} ± {percent(row[f'{m}_std'])} "
            f"[{percent(row[f'{m}_ci_low'])}, {percent(row[f'{m}_ci_high'])}]"
            for m in MEASURES
        ]
        scores += [
            f"{decimals(row[f'{m}_mean'])} "
            f"[{decimals(row[f'{m}_ci_low'])}, {decimals(row[f'{m}_ci_high'])}]"
            for m in ranked
        ]
        steps = ", equal steps" if row["steps"] == "matched" else ""
        name = f"{row['training_split']}: {data_text(str(row['data']))}{steps}"
        kind = f"{row['network']} {row['resolution']}"
        counts = (row[key] for key in ("n_real_per_label", "n_synthetic_per_label", "n_runs"))
        rows.append([name, kind, row["test_set"], *counts, *scores])
        mean, low, high = (
            to_number(row[f"balanced_accuracy_{part}"]) for part in ("mean", "ci_low", "ci_high")
        )
        if mean is not None and low is not None and high is not None:
            points.append((f"{name}\n{kind}", str(row["test_set"]), mean, low, high))
    head = "training set | classifier | test set | real per label | synthetic per label | runs"
    named = [f"{m.replace('_', ' ')}, %" for m in MEASURES] + [SCORE_WORDS[m] for m in ranked]
    head = " | ".join([head, *named])
    section.add_table("Results of each cell", head, rows, numeric=range(3, 6 + len(named)))
    if points:
        png = figures.intervals(points, section.phantom)
        words = "; ".join(f"{p[0]} on {p[1]}: {percent(p[2])} %".replace("\n", " ") for p in points)
        caption = "Balanced accuracy: mean over runs and 95 % interval."
        section.figures.append(ReportFigure(png, caption, words))
    if not section.phantom and study.config.label_rules is None:
        _published(section, table)


def _published(section: ReportSection, table: pd.DataFrame) -> None:
    """Put the papers' figures beside those of the same cells."""
    columns = ("cell", "test_set", "metric", "mean", "std", "source")
    printed = read_tsv(packaged("report", "published.tsv"), columns)
    ours = {(row["cell"], row["test_set"]): row for row in table.to_dict("records")}
    rows = []
    for row in printed.to_dict("records"):
        cell, test_set, metric = row["cell"], row["test_set"], row["metric"]
        own = ours.get((cell, test_set))
        if own is not None and metric in MEASURES:
            here = f"{percent(own[f'{metric}_mean'])} ± {percent(own[f'{metric}_std'])}"
            there = f"{percent(row['mean'])} ± {percent(row['std'])}"
            rows.append([cell, test_set, metric.replace("_", " "), here, there, row["source"]])
    if rows:
        head = "cell | test set | measure | here, % | published, % | where"
        section.add_table("Beside the published figures", head, rows, numeric=(3, 4))


def comparisons(study: Study, section: ReportSection) -> None:
    """Fill in ``comparisons.tsv``."""
    if not study.comparisons.is_file():
        return
    table = read_tsv(study.comparisons, COMPARISON_COLUMNS)
    section.paragraphs.append(
        "Difference from the cell trained on real images alone, same participants tested, in "
        "percentage points. An interval that contains zero means that the study cannot tell which "
        "is better. p (Holm) is corrected for the number of cells."
    )
    rows: dict[str, list[list[object]]] = {what: [] for what in _DIFFERENCES}
    for row in table.to_dict("records"):
        pair = [row[name] for name in ("cell", "reference_cell", "test_set")]
        metric = str(row["metric"])
        units = decimals if metric in SCORE_MEASURES else percent
        shown, low, high = (
            units(row[name], sign=True) for name in ("difference", "ci_low", "ci_high")
        )
        tests = (p_text(row["p"]), p_text(row["p_holm"]))
        words = SCORE_WORDS.get(metric, metric.replace("_", " "))
        line = [*pair, words, shown, f"[{low}, {high}]", *tests]
        for what, metrics in _DIFFERENCES.items():
            if metric in metrics:
                rows[what].append(line)
    for what, metrics in _DIFFERENCES.items():
        if rows[what]:
            unit = "" if metrics == SCORE_MEASURES else ", points"
            head = (
                f"cell | compared with | test set | measure | difference{unit} | 95 % interval | "
                "p | p (Holm)"
            )
            folded = what != "balanced accuracy"
            section.add_table(
                f"Differences in {what}", head, rows[what], numeric=range(4, 8), folded=folded
            )
    if table.empty:
        section.paragraphs.append("No cell has a real-only cell to be compared with.")


def cautions(study: Study) -> list[str]:
    """Say what the size of the study allows to be seen, beside the verdict."""
    found = []
    test = study.splits / "test.tsv"
    if test.is_file():
        told_apart = read_tsv(test, ("diagnosis",))["diagnosis"]
        classes = study.config.classes
        counts = told_apart[told_apart.isin(classes)].value_counts()
        fewest = int(counts.min()) if len(counts) else 0
        if 0 < fewest < FEW_PARTICIPANTS:
            people = " and ".join(f"{counts[c]} {c}" for c in classes if c in counts)
            found.append(
                f"The test set holds {people}: few participants decide, one alone moves the "
                f"balanced accuracy of a run by up to {50 / fewest:.1f} points."
            )
    path = study.root / "evaluation" / "detectable.tsv"
    if path.is_file():
        table = read_tsv(path, ("cell", "test_set", "detectable"))
        sizes = [size for size in map(to_number, table["detectable"]) if size is not None]
        if sizes and min(sizes) > 1:
            found.append(
                "With so few participants and runs not even a difference of 100 points would be "
                "found (80 % power): this study cannot tell whether synthetic images help."
            )
        elif sizes:
            low, high = (f"{100 * size:.0f}" for size in (min(sizes), min(1, max(sizes))))
            least = low if low == high else f"{low} to {high}"
            found.append(
                f"With these participants and runs, a true difference smaller than {least} points"
                f"{'' if low == high else ' (by the cell)'} would mostly go unseen (80 % power)."
            )
    return found


def cell_folders(study: Study) -> Iterator[Path]:
    """Folders of the cells, those of the configuration first."""
    root = study.root / "evaluation"
    named = [study.cell(cell) for cell in study.config.cells()]
    found = [path for path in visible(root) if path.is_dir()]
    yield from dict.fromkeys([path for path in named if path in found] + found)


def leakage(study: Study, section: ReportSection) -> None:
    """Fill in the proofs of `neuroaug.audit`, ``evaluation/<cell>/leakage.tsv``."""
    rows, refused = [], 0
    for path in (folder / FILE_NAME for folder in cell_folders(study)):
        if path.is_file():
            proof = read_tsv(path, PROOF_COLUMNS)[list(PROOF_COLUMNS)]
            rows += [[path.parent.name, *row] for row in proof.itertuples(index=False, name=None)]
            refused += int((proof["result"] == "refused").sum())
    if not rows:
        return
    section.paragraphs.append(
        "Before any training, each cell was checked: no participant of a validation, test or "
        "external set, no other visit of one and no copy of their image (by checksum) was seen by "
        f"a generator or stands in the training set. {len(rows)} checks, {refused} failed."
    )
    numeric = [i for i, name in enumerate(PROOF_COLUMNS, 1) if name.startswith("n_")]
    head = " | ".join(["cell", *PROOF_COLUMNS]).replace("_", " ")
    section.add_table("Checks", head, rows, numeric=numeric, folded=len(rows) > 12)


def further(study: Study, section: ReportSection) -> None:
    """Fill in the tables beside the results, as they stand in ``evaluation/``."""
    for name, caption in FURTHER:
        path = study.root / "evaluation" / f"{name}.tsv"
        if not path.is_file() or (table := read_tsv(path)).empty:
            continue
        numeric = [
            i
            for i, column in enumerate(table.columns)
            if to_number(table[column].dropna().head(1).squeeze()) is not None
        ]
        rows = [list(map(_short, row)) for row in table.itertuples(index=False, name=None)]
        head = " | ".join(table.columns).replace("_", " ")
        section.add_table(caption, head, rows, numeric=numeric, folded=True)


def _short(value: object) -> object:
    number = to_number(value)
    return value if number is None or "." not in str(value) else round(number, 4)
